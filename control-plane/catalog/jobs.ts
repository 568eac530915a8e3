import { and, desc, eq, getTableColumns, inArray, isNotNull, isNull, sql } from 'drizzle-orm'
import { HoldfastError } from '../../shared/errors.ts'
import { newJobId, parseSourceName } from '../../shared/ids.ts'
import { ACTIVE_STATES, type JobKind, type JobState } from '../domain/job.ts'
import { type JobSpec, type JobSpecInput, jobSpecSchema, writesPlace } from '../domain/job-spec.ts'
import type { Db } from './catalog.ts'
import { CHANNELS } from './channels.ts'
import { afterCursor, idLike, type Page, type PageQuery, page, pageLimit } from './cursor.ts'
import { applyEvent, type Caller, type JobRow } from './job-changes.ts'
import { addEvent } from './job-events.ts'
import { agents, backups, jobs, jobUnlocks, sources } from './schema/schema.ts'
import { placeSelectedBy, selectedBy } from './sources.ts'
import { isDuplicate, notifyIn } from './sql.ts'
import { storable, storableJson } from './text.ts'
import type { UnlockRow } from './unlocks.ts'

export type { Caller, JobRow } from './job-changes.ts'

export interface JobView extends JobRow {
  readonly agent: string
  /** host/name */
  readonly source: string | null
  /** What it waits for, or waited for: an operator with a recovery key. */
  readonly unlock: Omit<UnlockRow, 'jobId' | 'attempt' | 'files'> | null
}

export interface NewJob {
  readonly spec: JobSpecInput
  readonly agentId: string
  readonly sourceId?: string | null
  readonly requestedBy: string
  readonly policy?: string | null
  /** 1 and more. */
  readonly maxAttempts: number
  /** Of one attempt; at least 1, so that nothing runs for ever. */
  readonly deadlineSeconds: number
  readonly notBefore?: Date
  /** host/name that a restore writes; required for one that is not only a plan. */
  readonly place?: string
}

/**
 * Queues a job. Throws `overlap` when the source's last backup, or another restore into the place, is not finished; a restore or
 * verification names a good backup, which from then on cannot be removed until the job ends (`backup_invalid` otherwise).
 */
export async function createJob(db: Db, job: NewJob, now: Date): Promise<JobRow> {
  const spec = jobSpecSchema.parse(job.spec)
  const backupId = 'backup_id' in spec ? spec.backup_id : null
  const place = writesPlace(spec) ? job.place : undefined
  if (writesPlace(spec) && !place) throw new HoldfastError('internal', 'a restore that writes has to name its place')
  if (!(job.deadlineSeconds >= 1)) throw new HoldfastError('internal', 'a job needs a deadline')
  try {
    return await db.transaction(async (tx) => {
      if (backupId !== null) await requireGood(tx, backupId)
      const [row] = await tx
        .insert(jobs)
        .values({
          id: newJobId(),
          kind: spec.kind,
          state: 'queued',
          agentId: job.agentId,
          sourceId: job.sourceId ?? null,
          backupId,
          spec: storableJson(spec),
          maxAttempts: job.maxAttempts,
          notBefore: job.notBefore ?? now,
          deadlineSeconds: Math.ceil(job.deadlineSeconds),
          requestedBy: job.requestedBy,
          policy: job.policy ?? null,
          createdAt: now,
          writesPlace: place ?? null,
        })
        .returning()
      if (!row) throw new HoldfastError('internal', 'the job was not written')
      await addEvent(tx, { jobId: row.id, attempt: 0, type: 'state', at: now, data: { state: 'queued', error: null } })
      await notifyIn(tx, CHANNELS.work, row.agentId)
      return row
    })
  } catch (error) {
    throw overlapOf(error, job) ?? error
  }
}

async function requireGood(tx: Db, backupId: string): Promise<void> {
  // the share lock keeps retention from removing it between this look and the job's row
  const [backup] = await tx.select({ status: backups.status }).from(backups).where(eq(backups.id, backupId)).for('share')
  if (!backup) throw new HoldfastError('not_found', `backup ${backupId} is not known`)
  if (backup.status === 'good') return
  throw new HoldfastError('backup_invalid', `backup ${backupId} is ${backup.status}, not good`, {
    hint: 'Choose a good backup; "holdfast list" shows the state of each.',
  })
}

function overlapOf(error: unknown, job: NewJob): HoldfastError | undefined {
  if (isDuplicate(error, 'jobs_one_backup_a_source')) {
    return new HoldfastError('overlap', 'another backup of this source is not finished', {
      hint: 'Wait for it or cancel it; two runs of one source never overlap.',
      cause: error,
    })
  }
  if (isDuplicate(error, 'jobs_one_writer_a_place')) {
    return new HoldfastError('overlap', `another restore into ${job.place} is not finished`, {
      hint: 'Wait for it or cancel it. If it is lost, its agent has to come back, or force it knowing that it may still write.',
      cause: error,
    })
  }
  return undefined
}

const viewColumns = {
  ...getTableColumns(jobs),
  agent: agents.name,
  source: sql<string | null>`case when ${sources.id} is null then null else ${sources.host} || '/' || ${sources.name} end`,
  unlock: {
    recipient: jobUnlocks.recipient,
    askedAt: jobUnlocks.askedAt,
    expiresAt: jobUnlocks.expiresAt,
    unlockedAt: jobUnlocks.unlockedAt,
    unlockedBy: jobUnlocks.unlockedBy,
  },
}

const selectViews = (db: Db) =>
  db
    .select(viewColumns)
    .from(jobs)
    .innerJoin(agents, eq(agents.id, jobs.agentId))
    .leftJoin(sources, eq(sources.id, jobs.sourceId))
    .leftJoin(jobUnlocks, eq(jobUnlocks.jobId, jobs.id))

export async function getJob(db: Db, id: string): Promise<JobView> {
  const [row] = await selectViews(db).where(eq(jobs.id, id))
  if (row) return row
  throw new HoldfastError('not_found', `job ${JSON.stringify(id)} is not known`, { hint: 'List the jobs with "holdfast jobs".' })
}

export interface JobFilter extends PageQuery {
  readonly state?: JobState
  readonly kind?: JobKind
  /** host/name */
  readonly source?: string
  readonly agentId?: string
  readonly backupId?: string
  readonly finished?: boolean
  /** Patterns of host/name; none: all, jobs without a source too. What a restore writes has to be selected as well. */
  readonly selectedBy?: readonly string[]
  /** Beginning or ending of the id. */
  readonly id?: string
}

/** Newest first. */
export async function listJobs(db: Db, filter: JobFilter = {}): Promise<Page<JobView>> {
  const limit = pageLimit(filter)
  const place = filter.source === undefined ? undefined : parseSourceName(filter.source)
  const rows = await selectViews(db)
    .where(
      and(
        filter.state === undefined ? undefined : eq(jobs.state, filter.state),
        filter.kind === undefined ? undefined : eq(jobs.kind, filter.kind),
        filter.agentId === undefined ? undefined : eq(jobs.agentId, filter.agentId),
        filter.backupId === undefined ? undefined : eq(jobs.backupId, filter.backupId),
        filter.finished === undefined ? undefined : filter.finished ? isNotNull(jobs.finishedAt) : isNull(jobs.finishedAt),
        place && and(eq(sources.host, place.host), eq(sources.name, place.name)),
        afterCursor(filter.cursor, jobs.createdAt, jobs.id),
        selectedBy(filter.selectedBy ?? [], sources.host, sources.name),
        placeSelectedBy(filter.selectedBy ?? [], jobs.writesPlace),
        idLike(jobs.id, filter.id),
      ),
    )
    .orderBy(desc(jobs.createdAt), desc(jobs.id))
    .limit(limit + 1)
  return page(rows, limit, (row) => ({ at: row.createdAt, id: row.id }))
}

/** Attempts that the catalog believes to be at work on the agent: what a new stream's journal is compared with. */
export async function activeJobsOf(db: Db, agentId: string): Promise<JobRow[]> {
  return await db
    .select()
    .from(jobs)
    .where(and(eq(jobs.agentId, agentId), inArray(jobs.state, [...ACTIVE_STATES, 'lost'])))
}

/** Active jobs of these agents that somebody wants to end. */
export async function cancelsFor(db: Db, agentIds: readonly string[]): Promise<JobRow[]> {
  if (agentIds.length === 0) return []
  return await db
    .select()
    .from(jobs)
    .where(and(inArray(jobs.agentId, [...agentIds]), inArray(jobs.state, [...ACTIVE_STATES]), isNotNull(jobs.cancelRequestedAt)))
}

/** A queued job ends at once; an active one when its agent has stopped it. */
export async function requestCancel(db: Db, jobId: string, reason: string, now: Date): Promise<JobRow> {
  return await db.transaction(async (tx) => {
    const row = await applyEvent(tx, 'control-plane', jobId, { type: 'request-cancel' }, now)
    await tx
      .update(jobs)
      .set({ cancelReason: storable(reason, 1000) })
      .where(and(eq(jobs.id, jobId), isNull(jobs.cancelReason)))
    return { ...row, cancelReason: row.cancelReason ?? reason }
  })
}

/**
 * The job, if this attempt is its current one and the agent may still act for it: asked before an address or a key is given
 * out. Throws `attempt_fenced`.
 */
export async function requireCurrentAttempt(
  tx: Db,
  by: Caller,
  jobId: string,
  attempt: number,
): Promise<JobRow & { spec: JobSpec }> {
  const [row] = await tx.select().from(jobs).where(eq(jobs.id, jobId)).for('share')
  const mine = row && (by === 'control-plane' || by.agentId === row.agentId)
  if (!mine) throw new HoldfastError('not_found', `job ${JSON.stringify(jobId)} is not known`)
  if (row.attempt === attempt && (ACTIVE_STATES as readonly JobState[]).includes(row.state)) {
    return { ...row, spec: jobSpecSchema.parse(row.spec) }
  }
  throw new HoldfastError('attempt_fenced', `attempt ${attempt} is not the current one of job ${jobId}, which is ${row.state}`, {
    hint: 'Stop this attempt; a later one may already be at work.',
  })
}
