import { sql } from 'drizzle-orm'
import {
  bigint,
  bigserial,
  boolean,
  check,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  uniqueIndex,
} from 'drizzle-orm/pg-core'
import type { JobKind, JobState } from '../../domain/job.ts'
import { instant } from './columns.ts'
import { agents } from './identity.ts'
import { sources } from './protection.ts'

export const jobs = pgTable(
  'jobs',
  {
    id: text('id').primaryKey(),
    kind: text('kind').$type<JobKind>().notNull(),
    state: text('state').$type<JobState>().notNull(),
    /** The agent that does the work. */
    agentId: text('agent_id')
      .notNull()
      .references(() => agents.id),
    /** The source that is backed up, restored from or looked at; null for discover. */
    sourceId: text('source_id').references(() => sources.id),
    backupId: text('backup_id'),
    /** What was asked, by kind (domain/job.ts). */
    spec: jsonb('spec').$type<Record<string, unknown>>().notNull(),
    /** Fencing number of the current attempt; 0 before the first. */
    attempt: integer('attempt').notNull().default(0),
    maxAttempts: integer('max_attempts').notNull(),
    notBefore: instant('not_before').notNull(),
    deadlineSeconds: integer('deadline_seconds').notNull(),
    leaseUntil: instant('lease_until'),
    requestedBy: text('requested_by').notNull(),
    policy: text('policy'),
    createdAt: instant('created_at').notNull(),
    startedAt: instant('started_at'),
    finishedAt: instant('finished_at'),
    progress: jsonb('progress').$type<Record<string, unknown>>(),
    errorCode: text('error_code'),
    errorMessage: text('error_message'),
    errorHint: text('error_hint'),
    detail: jsonb('detail').$type<Record<string, unknown>>(),
    cancelRequestedAt: instant('cancel_requested_at'),
    cancelReason: text('cancel_reason'),
    /** What a writing restore writes, `host/name`: no two such jobs are unfinished at once. */
    writesPlace: text('writes_place'),
  },
  (t) => [
    check(
      'jobs_state',
      sql`state in ('queued','dispatched','running','committing','validating','succeeded','failed','cancelled','lost')`,
    ),
    index('jobs_unfinished').on(t.agentId, t.state, t.notBefore).where(sql`finished_at is null`),
    index('jobs_created').on(t.createdAt),
    uniqueIndex('jobs_one_backup_a_source').on(t.sourceId).where(sql`kind = 'backup' and finished_at is null`),
    uniqueIndex('jobs_one_writer_a_place').on(t.writesPlace).where(sql`writes_place is not null and finished_at is null`),
  ],
)

export const jobAttempts = pgTable(
  'job_attempts',
  {
    jobId: text('job_id')
      .notNull()
      .references(() => jobs.id),
    attempt: integer('attempt').notNull(),
    agentId: text('agent_id').notNull(),
    epoch: bigint('epoch', { mode: 'number' }).notNull(),
    instanceId: text('instance_id').notNull(),
    dispatchedAt: instant('dispatched_at').notNull(),
    acceptedAt: instant('accepted_at'),
    endedAt: instant('ended_at'),
    outcome: text('outcome'),
    errorCode: text('error_code'),
    errorMessage: text('error_message'),
    /** The agent itself said that this attempt is over: only then may a restore be tried again. */
    endConfirmed: boolean('end_confirmed').notNull().default(false),
  },
  (t) => [primaryKey({ columns: [t.jobId, t.attempt] })],
)

/** What happened in a job, in order: states, progress, findings, logs. Streams of events resume by id. */
export const jobEvents = pgTable(
  'job_events',
  {
    id: bigserial('id', { mode: 'number' }).primaryKey(),
    jobId: text('job_id')
      .notNull()
      .references(() => jobs.id),
    attempt: integer('attempt').notNull(),
    at: instant('at').notNull(),
    type: text('type').$type<'state' | 'finding' | 'log'>().notNull(),
    /** The agent's own number of a log line; a repeated one is dropped. */
    number: bigint('number', { mode: 'number' }),
    data: jsonb('data').$type<Record<string, unknown>>().notNull(),
  },
  (t) => [index('job_events_job').on(t.jobId, t.id), uniqueIndex('job_events_once').on(t.jobId, t.attempt, t.type, t.number)],
)

/** A job that reads what the control plane cannot open: its public key, and the data keys once an operator has sealed them to it. */
export const jobUnlocks = pgTable('job_unlocks', {
  jobId: text('job_id')
    .primaryKey()
    .references(() => jobs.id),
  /** That asked last. */
  attempt: integer('attempt').notNull(),
  recipient: text('recipient').notNull(),
  askedAt: instant('asked_at').notNull(),
  expiresAt: instant('expires_at').notNull(),
  unlockedAt: instant('unlocked_at'),
  unlockedBy: text('unlocked_by'),
  /** Until the job is over. */
  files: jsonb('files').$type<Array<{ backup_id: string; attempt: number; file: string }>>(),
})
