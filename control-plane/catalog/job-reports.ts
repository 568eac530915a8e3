import { and, eq, inArray, isNull, lt, or, sql } from 'drizzle-orm'
import { HoldfastError } from '../../shared/errors.ts'
import type { Finding } from '../../shared/results.ts'
import { ACTIVE_STATES, AGENT_STATES, type JobError } from '../domain/job.ts'
import type { Db } from './catalog.ts'
import { CHANNELS } from './channels.ts'
import { applyEvent, type Caller, type JobRow, lockJob } from './job-changes.ts'
import { addEvent } from './job-events.ts'
import { agents, jobAttempts, jobs } from './schema/schema.ts'
import { notifyIn } from './sql.ts'
import { storableJson } from './text.ts'

/** What an attempt says of itself. Each call names it, and is refused once it is not the current one or the stream is old. */
export interface AttemptRef {
  readonly by: Caller
  readonly jobId: string
  readonly attempt: number
}

/** The agent has the command in its journal: it runs. May be repeated. */
export async function recordAccepted(db: Db, of: AttemptRef, now: Date, leaseUntil: Date): Promise<JobRow> {
  return await db.transaction((tx) =>
    applyEvent(tx, of.by, of.jobId, { type: 'accept', attempt: of.attempt }, now, { leaseUntil }),
  )
}

/** Only the latest is kept. Progress of an attempt that is not the current one is dropped: false. Never blocks work. */
export async function recordProgress(db: Db, of: AttemptRef, progress: Record<string, unknown>): Promise<boolean> {
  const value = storableJson(progress, 200)
  return await db.transaction(async (tx) => {
    const rows = await tx
      .update(jobs)
      .set({ progress: value })
      .where(
        and(eq(jobs.id, of.jobId), eq(jobs.attempt, of.attempt), inArray(jobs.state, [...ACTIVE_STATES]), currentCaller(of.by)),
      )
      .returning({ id: jobs.id })
    if (rows.length === 0) return false
    await notifyIn(tx, CHANNELS.jobProgress, JSON.stringify({ job_id: of.jobId, attempt: of.attempt, progress: value }))
    return true
  })
}

export async function recordFinding(db: Db, of: AttemptRef, finding: Finding, now: Date): Promise<void> {
  await record(db, of, 'finding', { ...finding }, now)
}

export interface LogLine {
  readonly number: number
  readonly level: string
  readonly message: string
  readonly clockMs: number
}

/** A number that is there already is dropped. */
export async function recordLog(db: Db, of: AttemptRef, line: LogLine, now: Date): Promise<void> {
  await record(db, of, 'log', { level: line.level, message: line.message, clock_ms: line.clockMs }, now, line.number)
}

async function record(
  db: Db,
  of: AttemptRef,
  type: 'finding' | 'log',
  data: Record<string, unknown>,
  now: Date,
  number?: number,
) {
  await db.transaction(async (tx) => {
    const [row] = await tx
      .select({ attempt: jobs.attempt })
      .from(jobs)
      .where(and(eq(jobs.id, of.jobId), currentCaller(of.by)))
      .for('no key update')
    // a late line of an earlier attempt still tells what happened in it; a number that never was is nobody's
    if (!row || of.attempt < 1 || of.attempt > row.attempt) {
      throw new HoldfastError(
        'attempt_fenced',
        `attempt ${of.attempt} of job ${of.jobId} is not one that this stream may speak of`,
      )
    }
    await addEvent(tx, { jobId: of.jobId, attempt: of.attempt, type, at: now, data, number })
  })
}

export type AttemptResult =
  | { readonly outcome: 'succeeded'; readonly detail?: Record<string, unknown> }
  | {
      readonly outcome: 'failed'
      readonly error: JobError
      readonly retryable: boolean
      readonly detail?: Record<string, unknown>
    }
  | { readonly outcome: 'cancelled'; readonly detail?: Record<string, unknown> }

/**
 * The attempt's end. A backup's success is its validation's, so it comes out of `validating`; a failure that may be tried again
 * queues the job with a growing, jittered wait. The backup turns good or failed in the same transaction.
 */
export async function finishAttempt(db: Db, of: AttemptRef, result: AttemptResult, now: Date): Promise<JobRow> {
  const { attempt } = of
  const detail = result.detail === undefined ? {} : { detail: storableJson(result.detail, 64_000) }
  return await db.transaction((tx) => {
    switch (result.outcome) {
      case 'succeeded':
        return applyEvent(tx, of.by, of.jobId, { type: 'succeed', attempt }, now, detail)
      case 'failed':
        return applyEvent(
          tx,
          of.by,
          of.jobId,
          {
            type: 'fail',
            attempt,
            error: result.error,
            retryable: result.retryable,
            by: of.by === 'control-plane' ? 'control-plane' : 'agent',
          },
          now,
          detail,
        )
      case 'cancelled':
        return applyEvent(tx, of.by, of.jobId, { type: 'stopped', attempt }, now, { ...detail, outcome: 'cancelled' })
    }
  })
}

/** The agent's own answer, of an attempt whose success somebody else decides. */
export async function keepDetail(db: Db, of: AttemptRef, detail: Record<string, unknown>): Promise<void> {
  await db
    .update(jobs)
    .set({ detail: storableJson(detail, 64_000) })
    .where(and(eq(jobs.id, of.jobId), eq(jobs.attempt, of.attempt), currentCaller(of.by)))
}

/** The manifest is written; from here on the control plane validates. May be repeated. */
export async function beginValidation(db: Db, of: AttemptRef, now: Date, leaseUntil: Date): Promise<JobRow> {
  return await db.transaction((tx) =>
    applyEvent(tx, of.by, of.jobId, { type: 'validate', attempt: of.attempt }, now, { leaseUntil }),
  )
}

/** The agent's word that a lost attempt is over: only then is a restore tried again. Of an attempt that is not lost: nothing. */
export async function confirmEnd(db: Db, of: AttemptRef, now: Date): Promise<void> {
  await db.transaction(async (tx) => {
    const [row] = await tx.select({ state: jobs.state, attempt: jobs.attempt }).from(jobs).where(eq(jobs.id, of.jobId))
    if (row?.attempt === of.attempt && (row.state === 'lost' || row.state === 'queued')) {
      await applyEvent(tx, of.by, of.jobId, { type: 'confirm-end', attempt: of.attempt }, now)
    }
    const mine = of.by === 'control-plane' ? undefined : eq(jobAttempts.agentId, of.by.agentId)
    await tx
      .update(jobAttempts)
      .set({ endConfirmed: true })
      .where(
        and(eq(jobAttempts.jobId, of.jobId), eq(jobAttempts.attempt, of.attempt), mine, sql`${jobAttempts.endedAt} is not null`),
      )
  })
}

/**
 * Commands that went out on the agent's earlier streams and that nobody heard it take. What its journal does not hold either it never took:
 * it writes that before anything else, and hears no more of a stream that has ended.
 */
export async function unheardAttempts(
  db: Db,
  session: { agentId: string; epoch: number },
): Promise<ReadonlyArray<{ jobId: string; attempt: number }>> {
  return await db
    .select({ jobId: jobs.id, attempt: jobs.attempt })
    .from(jobs)
    .innerJoin(jobAttempts, and(eq(jobAttempts.jobId, jobs.id), eq(jobAttempts.attempt, jobs.attempt)))
    .where(
      and(
        eq(jobs.agentId, session.agentId),
        inArray(jobs.state, ['dispatched', 'lost']),
        isNull(jobAttempts.acceptedAt),
        lt(jobAttempts.epoch, session.epoch),
      ),
    )
}

/** Of an attempt that its agent never took: it is over, and the job is tried again, a restore too. */
export async function endUntaken(db: Db, of: AttemptRef, now: Date): Promise<JobRow> {
  const error = { code: 'job_lost', message: 'the command was lost with the stream that it went out on' }
  const { attempt } = of
  return await db.transaction(async (tx) => {
    const { state } = await lockJob(tx, of.by, of.jobId)
    if (state === 'lost') return applyEvent(tx, of.by, of.jobId, { type: 'confirm-end', attempt }, now)
    return applyEvent(tx, of.by, of.jobId, { type: 'fail', attempt, error, retryable: true, by: 'agent' }, now, {
      outcome: 'lost',
    })
  })
}

/** An operator takes the risk that the lost attempt still writes. */
export async function forceEnd(db: Db, jobId: string, now: Date): Promise<JobRow> {
  return await db.transaction((tx) => applyEvent(tx, 'control-plane', jobId, { type: 'force' }, now, { outcome: 'forced' }))
}

/**
 * Every running attempt of the stream's agent, or only those named: an agent that came back names what its journal holds, and
 * the rest ends by its lease. Commands that were not accepted are not renewed. Returns how many.
 */
export async function renewLeases(
  db: Db,
  session: { agentId: string; epoch: number },
  until: Date,
  only?: readonly { jobId: string; attempt: number }[],
): Promise<number> {
  if (only?.length === 0) return 0
  const named = only && or(...only.map((one) => and(eq(jobs.id, one.jobId), eq(jobs.attempt, one.attempt))))
  const rows = await db
    .update(jobs)
    .set({ leaseUntil: until })
    .where(and(eq(jobs.agentId, session.agentId), eq(jobs.state, 'running'), currentCaller(session), named))
    .returning({ id: jobs.id })
  return rows.length
}

/** Of an attempt that the control plane itself works on: a commit, a validation. False: it is no longer the current one. */
export async function renewLease(db: Db, jobId: string, attempt: number, until: Date): Promise<boolean> {
  const rows = await db
    .update(jobs)
    .set({ leaseUntil: until })
    .where(and(eq(jobs.id, jobId), eq(jobs.attempt, attempt), inArray(jobs.state, [...ACTIVE_STATES])))
    .returning({ id: jobs.id })
  return rows.length > 0
}

/** Seconds that a control plane is given beyond an attempt's own deadline before it ends the attempt. */
const DEADLINE_GRACE_SECONDS = 60

/**
 * Ends what nothing was heard of: attempts whose lease is over or whose deadline has passed. A commit or validation whose
 * lease is over is not lost but taken over (`takeOverCommits`), until its deadline. Returns the jobs as they are now.
 */
export async function expireLeases(db: Db, now: Date): Promise<JobRow[]> {
  const deadline = sql`(select ${jobAttempts.dispatchedAt} + make_interval(secs => ${jobs.deadlineSeconds} + ${DEADLINE_GRACE_SECONDS}::int) from ${jobAttempts} where ${jobAttempts.jobId} = ${jobs.id} and ${jobAttempts.attempt} = ${jobs.attempt})`
  const overdue = sql<boolean>`${deadline} < ${now.toISOString()}::timestamptz`
  return await db.transaction(async (tx) => {
    const rows = await tx
      .select({ id: jobs.id, attempt: jobs.attempt, overdue })
      .from(jobs)
      .where(
        or(
          and(inArray(jobs.state, [...AGENT_STATES]), lt(jobs.leaseUntil, now)),
          and(inArray(jobs.state, [...ACTIVE_STATES]), overdue),
        ),
      )
      .limit(200)
      .for('update', { of: jobs, skipLocked: true })
    const ended: JobRow[] = []
    for (const row of rows) {
      const error = row.overdue
        ? { code: 'deadline_exceeded', message: 'the attempt did not end within its deadline' }
        : { code: 'job_lost', message: 'nothing was heard of the attempt for the length of its lease' }
      ended.push(
        await applyEvent(tx, 'control-plane', row.id, { type: 'expire', attempt: row.attempt, error }, now, { outcome: 'lost' }),
      )
    }
    return ended
  })
}

/** The stream that reports is the agent's newest; a unary call has no stream. */
function currentCaller(by: Caller) {
  if (by === 'control-plane') return undefined
  if (by.epoch === null) return eq(jobs.agentId, by.agentId)
  return and(
    eq(jobs.agentId, by.agentId),
    sql`exists (select 1 from ${agents} where ${agents.id} = ${by.agentId} and ${agents.sessionEpoch} = ${by.epoch})`,
  )
}
