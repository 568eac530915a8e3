import { boolean, integer, jsonb, pgTable, primaryKey, text, uniqueIndex } from 'drizzle-orm/pg-core'
import { instant } from './columns.ts'
import { agents } from './identity.ts'

/** What agents said they can back up. A source that is no longer configured keeps its row and its backups. */
export const sources = pgTable(
  'sources',
  {
    id: text('id').primaryKey(),
    agentId: text('agent_id')
      .notNull()
      .references(() => agents.id),
    host: text('host').notNull(),
    name: text('name').notNull(),
    engine: text('engine').notNull(),
    labels: jsonb('labels').$type<Record<string, string>>().notNull().default({}),
    facts: jsonb('facts').$type<Record<string, string>>().notNull().default({}),
    present: boolean('present').notNull().default(true),
    /** Next sequence number of its manifests is this plus one. */
    sequence: integer('sequence').notNull().default(0),
    /** An operator has seen a sharp fall in size or counts and accepts what was backed up until then as the new normal. */
    fallAcceptedAt: instant('fall_accepted_at'),
    createdAt: instant('created_at').notNull(),
    lastSeenAt: instant('last_seen_at').notNull(),
  },
  (t) => [uniqueIndex('sources_full_name').on(t.host, t.name)],
)

export const targets = pgTable('targets', {
  name: text('name').primaryKey(),
  kind: text('kind').notNull(),
  /** Never credentials. */
  config: jsonb('config').$type<Record<string, unknown>>().notNull(),
  facts: jsonb('facts').$type<Record<string, unknown>>(),
  probedAt: instant('probed_at'),
  createdAt: instant('created_at').notNull(),
})

export const policies = pgTable('policies', {
  name: text('name').primaryKey(),
  /** As in fleet.yaml, units resolved (domain/policy.ts). */
  spec: jsonb('spec').$type<Record<string, unknown>>().notNull(),
  revision: integer('revision').notNull(),
  /** Since when the schedule is what it is: due times before that are not missed runs of it. */
  scheduleSince: instant('schedule_since').notNull(),
  createdAt: instant('created_at').notNull(),
  updatedAt: instant('updated_at').notNull(),
})

/** One row per occurrence of a schedule: its key is what keeps two control planes from firing it twice. */
export const occurrences = pgTable(
  'occurrences',
  {
    policy: text('policy').notNull(),
    sourceId: text('source_id')
      .notNull()
      .references(() => sources.id),
    dueAt: instant('due_at').notNull(),
    type: text('type').notNull(),
    /** fired, skipped-overlap, skipped-window, missed */
    outcome: text('outcome').notNull(),
    jobId: text('job_id'),
    createdAt: instant('created_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.policy, t.sourceId, t.dueAt] })],
)
