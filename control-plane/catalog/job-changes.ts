import { and, eq } from 'drizzle-orm'
import { HoldfastError } from '../../shared/errors.ts'
import { randomFraction } from '../../shared/ids.ts'
import { isActive, isFinished, type Job, type JobEvent, retryDelay, transition } from '../domain/job.ts'
import { markFailed, markGood } from './backups.ts'
import type { Db } from './catalog.ts'
import { CHANNELS } from './channels.ts'
import { addEvent } from './job-events.ts'
import { agents, jobAttempts, jobs } from './schema/schema.ts'
import { notifyIn } from './sql.ts'
import { storable } from './text.ts'
import { forgetUnlocked } from './unlocks.ts'

export type JobRow = typeof jobs.$inferSelect

/**
 * Who reports. An agent by its stream gives the stream's epoch and is refused once a newer stream exists; by a unary call it
 * gives null, and the attempt's number alone fences it.
 */
export type Caller = { readonly agentId: string; readonly epoch: number | null } | 'control-plane'

export interface ChangeExtras {
  readonly leaseUntil?: Date
  readonly detail?: Record<string, unknown>
  /** Of the attempt, where it is not the state's own name. */
  readonly outcome?: string
}

/**
 * The one place where a job changes state: locks its row, lets the domain decide, and writes the result guarded by the state and
 * the attempt that were decided upon. What hangs on a state (the backup, the attempt, events, wake-ups) changes with it.
 */
export async function applyEvent(
  tx: Db,
  by: Caller,
  jobId: string,
  event: JobEvent,
  now: Date,
  extras: ChangeExtras = {},
): Promise<JobRow> {
  const before = await lockJob(tx, by, jobId)
  const [last] = await tx.select().from(jobAttempts).where(ofAttempt(jobId, before.attempt))
  const was = toDomain(before, last?.endConfirmed ?? before.attempt === 0)
  const next = transition(was, event)
  const changed = next.state !== was.state || next.attempt !== was.attempt || next.cancelRequested !== was.cancelRequested
  if (last && next.attempt === was.attempt) await recordAttempt(tx, before, was, next, now, extras)
  if (!changed && extras.leaseUntil === undefined && extras.detail === undefined) return before
  const [after] = await tx
    .update(jobs)
    .set(patchOf(before, was, next, now, extras))
    .where(and(eq(jobs.id, jobId), eq(jobs.state, before.state), eq(jobs.attempt, before.attempt)))
    .returning()
  if (!after) throw new HoldfastError('attempt_fenced', `job ${jobId} has moved on`)
  if (!changed) return after
  await settleBackup(tx, after, now)
  if (isFinished(after.state)) await forgetUnlocked(tx, after.id)
  await addEvent(tx, { jobId, attempt: after.attempt, type: 'state', at: now, data: stateData(after) })
  // an agent gets to hear of a cancel; a queued job is to be claimed
  if (after.state === 'queued' || after.cancelRequestedAt !== null) await notifyIn(tx, CHANNELS.work, after.agentId)
  return after
}

/** The row, locked; `not_found` also for another agent's job, so that nobody learns which ids exist. */
export async function lockJob(tx: Db, by: Caller, jobId: string): Promise<JobRow> {
  const [row] = await tx.select().from(jobs).where(eq(jobs.id, jobId)).for('update')
  if (!row || (by !== 'control-plane' && by.agentId !== row.agentId)) {
    throw new HoldfastError('not_found', `job ${JSON.stringify(jobId)} is not known`, {
      hint: 'List the jobs with "holdfast jobs".',
    })
  }
  if (by !== 'control-plane' && by.epoch !== null) await requireEpoch(tx, by.agentId, by.epoch)
  return row
}

async function requireEpoch(tx: Db, agentId: string, epoch: number): Promise<void> {
  const [agent] = await tx.select({ epoch: agents.sessionEpoch }).from(agents).where(eq(agents.id, agentId)).for('share')
  if (agent?.epoch === epoch) return
  throw new HoldfastError(
    'session_superseded',
    `session ${epoch} of agent ${agentId} was superseded by session ${agent?.epoch}`,
    {
      hint: 'Connect again; only the newest stream of an agent may report.',
    },
  )
}

export function toDomain(row: JobRow, endConfirmed: boolean): Job {
  return {
    kind: row.kind,
    state: row.state,
    attempt: row.attempt,
    maxAttempts: row.maxAttempts,
    writes: row.writesPlace !== null,
    cancelRequested: row.cancelRequestedAt !== null,
    endConfirmed,
    error: row.errorCode === null ? null : { code: row.errorCode, message: row.errorMessage ?? '', hint: row.errorHint },
  }
}

function patchOf(row: JobRow, was: Job, next: Job, now: Date, extras: ChangeExtras): Partial<typeof jobs.$inferInsert> {
  const again = next.state === 'queued' && was.state !== 'queued'
  return {
    state: next.state,
    attempt: next.attempt,
    errorCode: next.error?.code ?? null,
    errorMessage: next.error ? storable(next.error.message) : null,
    errorHint: next.error?.hint ? storable(next.error.hint) : null,
    leaseUntil: isActive(next.state) ? (extras.leaseUntil ?? row.leaseUntil) : null,
    startedAt: row.startedAt ?? (next.state === 'running' || next.state === 'committing' ? now : null),
    finishedAt: isFinished(next.state) ? now : null,
    cancelRequestedAt: next.cancelRequested ? (row.cancelRequestedAt ?? now) : null,
    notBefore: again ? new Date(now.getTime() + retryDelay(next.attempt, randomFraction())) : row.notBefore,
    detail: extras.detail ?? row.detail,
  }
}

async function recordAttempt(tx: Db, row: JobRow, was: Job, next: Job, now: Date, extras: ChangeExtras): Promise<void> {
  const accepted = next.state === 'running' && was.state === 'dispatched'
  const late = was.state === 'lost' && next.state === 'succeeded'
  const over = (isActive(was.state) && !isActive(next.state)) || late
  if (!accepted && !over && next.endConfirmed === was.endConfirmed) return
  await tx
    .update(jobAttempts)
    .set({
      endConfirmed: next.endConfirmed,
      ...(accepted ? { acceptedAt: now } : {}),
      ...(over
        ? {
            endedAt: now,
            outcome: extras.outcome ?? (next.error && next.state !== 'cancelled' ? 'failed' : next.state),
            errorCode: next.error?.code ?? null,
            errorMessage: next.error ? storable(next.error.message) : null,
          }
        : {}),
    })
    .where(ofAttempt(row.id, row.attempt))
}

/** A backup job and its backup end together: neither can be believed without the other. */
async function settleBackup(tx: Db, job: JobRow, now: Date): Promise<void> {
  if (job.kind !== 'backup' || job.backupId === null) return
  if (job.state === 'succeeded') await markGood(tx, job.backupId, now)
  else if (isFinished(job.state)) await markFailed(tx, job.backupId, now)
}

function stateData(row: JobRow): Record<string, unknown> {
  return {
    state: row.state,
    error: row.errorCode === null ? null : { code: row.errorCode, message: row.errorMessage, hint: row.errorHint },
    cancel_requested: row.cancelRequestedAt !== null,
  }
}

const ofAttempt = (jobId: string, attempt: number) => and(eq(jobAttempts.jobId, jobId), eq(jobAttempts.attempt, attempt))
