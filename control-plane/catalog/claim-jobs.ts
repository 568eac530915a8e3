import { and, asc, eq, exists, inArray, isNull, lt, lte, ne, notInArray, or, sql } from 'drizzle-orm'
import { type JobSpec, jobSpecSchema } from '../domain/job-spec.ts'
import { type FleetRecipients, isWithheld } from '../domain/recipients.ts'
import { type BackupRef, closure } from './backups.ts'
import type { Db } from './catalog.ts'
import { type ClaimLimits, roomFor } from './claim-room.ts'
import { applyEvent, type JobRow } from './job-changes.ts'
import { type BackupDispatch, planBackup } from './plan-backup.ts'
import { agents, backups, jobAttempts, jobs, sessions } from './schema/schema.ts'

export type { ClaimLimits } from './claim-room.ts'

export interface ClaimContext {
  readonly instanceId: string
  /** Whose streams this control plane holds. */
  readonly agentIds: readonly string[]
  readonly limits: ClaimLimits
  /** Those whom a new backup may be sealed to; the source's policies say which of them. */
  readonly recipients: FleetRecipients
  /** Until then the agent has to accept. */
  readonly leaseUntil: Date
}

export interface ClaimedJob {
  readonly job: JobRow
  readonly spec: JobSpec
  /** Of the stream that the command goes out on. */
  readonly epoch: number
  /** For a backup: what it is called and leans on. */
  readonly dispatch: BackupDispatch | null
  /** For a job that reads a backup: that, and everything that it leans on. */
  readonly reads: { readonly backup: BackupRef; readonly leanedOn: readonly BackupRef[] } | null
  /** What it reads is sealed to the recovery recipients alone: an operator has to open it for the job. */
  readonly needsUnlock: boolean
}

/** Claims are made one at a time across the fleet: only so do the limits hold with several control planes. */
const CLAIM_LOCK = sql`select pg_advisory_xact_lock(7440, 2)`

/**
 * Takes what is due for agents whose newest stream this control plane holds, oldest first: a new attempt number, its row with
 * the stream's epoch, and for a backup its row and the rows that say what it may lean on, all in one transaction.
 */
export async function claimJobs(db: Db, context: ClaimContext, now: Date): Promise<ClaimedJob[]> {
  if (context.agentIds.length === 0) return []
  return await db.transaction(async (tx) => {
    await tx.execute(CLAIM_LOCK)
    const room = await roomFor(tx, context.limits)
    if (room.fleet <= 0) return []
    const due = await tx
      .select({ job: jobs, epoch: sessions.epoch })
      .from(jobs)
      .innerJoin(agents, and(eq(agents.id, jobs.agentId), eq(agents.state, 'active')))
      .innerJoin(
        sessions,
        and(
          eq(sessions.agentId, agents.id),
          eq(sessions.epoch, agents.sessionEpoch),
          eq(sessions.instanceId, context.instanceId),
          isNull(sessions.endedAt),
        ),
      )
      .where(
        and(
          eq(jobs.state, 'queued'),
          ne(jobs.kind, 'validate'),
          lte(jobs.notBefore, now),
          inArray(
            jobs.agentId,
            // one agent or policy with hundreds of jobs waiting must not hide the others' from the limited look
            context.agentIds.filter((id) => room.ofAgent(id)),
          ),
          or(isNull(jobs.policy), notInArray(jobs.policy, room.fullPolicies)),
        ),
      )
      .orderBy(asc(jobs.createdAt), asc(jobs.id))
      .limit(500)
      .for('update', { of: jobs, skipLocked: true })
    const claimed: ClaimedJob[] = []
    for (const { job, epoch } of due) {
      if (room.take(job)) claimed.push(await dispatch(tx, job, epoch, context, now))
    }
    return claimed
  })
}

async function dispatch(tx: Db, job: JobRow, epoch: number, context: ClaimContext, now: Date): Promise<ClaimedJob> {
  const spec = jobSpecSchema.parse(job.spec)
  const dispatchOf = spec.kind === 'backup' ? await planBackup(tx, job, spec, context.recipients, now) : null
  const { leaseUntil } = context
  const after = await applyEvent(tx, 'control-plane', job.id, { type: 'dispatch' }, now, { leaseUntil })
  await tx.insert(jobAttempts).values({
    jobId: job.id,
    attempt: after.attempt,
    agentId: job.agentId,
    epoch,
    instanceId: context.instanceId,
    dispatchedAt: now,
  })
  const reads = 'backup_id' in spec ? await readsOf(tx, spec.backup_id) : null
  const needsUnlock = reads !== null && (await anyWithheld(tx, [reads.backup, ...reads.leanedOn], context.recipients.fleet))
  return { job: after, spec, epoch, dispatch: dispatchOf, reads, needsUnlock }
}

async function anyWithheld(tx: Db, refs: readonly BackupRef[], fleet: string): Promise<boolean> {
  const ids = refs.map((ref) => ref.id)
  const rows = await tx.select({ recipients: backups.recipients }).from(backups).where(inArray(backups.id, ids))
  return rows.some((row) => isWithheld(row.recipients, fleet))
}

/** Of a backup that a job reads: its name and all that it leans on. */
export async function readsOf(db: Db, backupId: string): Promise<{ backup: BackupRef; leanedOn: BackupRef[] } | null> {
  const [backup] = await db
    .select({ id: backups.id, host: backups.host, source: backups.source, manifestSha256: backups.manifestSha256 })
    .from(backups)
    .where(eq(backups.id, backupId))
  return backup ? { backup, leanedOn: await closure(db, backupId) } : null
}

/** Validations asked for by themselves: the control plane's own work, which any instance may take. */
export async function claimValidations(db: Db, instanceId: string, now: Date, leaseUntil: Date, limit = 4): Promise<JobRow[]> {
  return await db.transaction(async (tx) => {
    const due = await tx
      .select()
      .from(jobs)
      .where(and(eq(jobs.kind, 'validate'), eq(jobs.state, 'queued'), lte(jobs.notBefore, now)))
      .orderBy(asc(jobs.createdAt))
      .limit(limit)
      .for('update', { skipLocked: true })
    const taken: JobRow[] = []
    for (const job of due) {
      const { attempt } = await applyEvent(tx, 'control-plane', job.id, { type: 'dispatch' }, now, { leaseUntil })
      await tx
        .insert(jobAttempts)
        .values({ jobId: job.id, attempt, agentId: job.agentId, epoch: 0, instanceId, dispatchedAt: now })
      taken.push(await applyEvent(tx, 'control-plane', job.id, { type: 'accept', attempt }, now, { leaseUntil }))
    }
    return taken
  })
}

/**
 * Commits and validations that no control plane has worked on for the length of their lease: this one goes on with them, every
 * step being repeatable. The same statement that finds them moves the lease, so that one instance gets each.
 */
export async function takeOverCommits(db: Db, now: Date, leaseUntil: Date): Promise<JobRow[]> {
  return await db
    .update(jobs)
    .set({ leaseUntil })
    .where(and(inArray(jobs.state, ['committing', 'validating']), lt(jobs.leaseUntil, now)))
    .returning()
}

/** Whether this control plane holds the newest stream of the agent. */
export async function holdsSession(db: Db, instanceId: string, agentId: string): Promise<boolean> {
  const open = db
    .select({ one: sql`1` })
    .from(sessions)
    .where(
      and(
        eq(sessions.agentId, agents.id),
        eq(sessions.epoch, agents.sessionEpoch),
        eq(sessions.instanceId, instanceId),
        isNull(sessions.endedAt),
      ),
    )
  const rows = await db
    .select({ id: agents.id })
    .from(agents)
    .where(and(eq(agents.id, agentId), exists(open)))
  return rows.length > 0
}
