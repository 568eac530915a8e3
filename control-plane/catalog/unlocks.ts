import { eq } from 'drizzle-orm'
import { HoldfastError } from '../../shared/errors.ts'
import { AGENT_STATES, isFinished, type JobState } from '../domain/job.ts'
import type { Db } from './catalog.ts'
import { addEvent } from './job-events.ts'
import { jobs, jobUnlocks } from './schema/schema.ts'

export type UnlockRow = typeof jobUnlocks.$inferSelect

/** A data key, sealed to the key of the job: an age file in base 64. */
export interface JobDataKey {
  readonly backup_id: string
  readonly attempt: number
  readonly file: string
}

/**
 * The agent's word which public key its job has. The same key again changes nothing, in whichever attempt: what was unlocked stays so. Within one
 * attempt the key cannot change (`conflict`); a new attempt may bring another, and then what was unlocked for the one before is of no use.
 */
export async function askUnlock(
  db: Db,
  ask: { jobId: string; attempt: number; recipient: string; expiresAt: Date },
  now: Date,
): Promise<UnlockRow> {
  return await db.transaction(async (tx) => {
    const [job] = await tx.select().from(jobs).where(eq(jobs.id, ask.jobId)).for('update')
    if (job?.attempt !== ask.attempt || !(AGENT_STATES as readonly JobState[]).includes(job.state)) {
      throw new HoldfastError('attempt_fenced', `attempt ${ask.attempt} of job ${ask.jobId} is not the one that runs`)
    }
    const before = await unlockOf(tx, ask.jobId)
    if (before?.recipient === ask.recipient) {
      if (before.attempt === ask.attempt) return before
      return await written(tx.update(jobUnlocks).set({ attempt: ask.attempt }).where(eq(jobUnlocks.jobId, ask.jobId)).returning())
    }
    if (before?.attempt === ask.attempt) {
      throw new HoldfastError('conflict', `job ${ask.jobId} has another key already`, {
        hint: 'The key of an attempt does not change: if this is no mistake of the agent, somebody else has its certificate.',
      })
    }
    const row = { ...ask, askedAt: now, unlockedAt: null, unlockedBy: null, files: null }
    const asked = await written(
      tx.insert(jobUnlocks).values(row).onConflictDoUpdate({ target: jobUnlocks.jobId, set: row }).returning(),
    )
    await addEvent(tx, { jobId: ask.jobId, attempt: ask.attempt, type: 'finding', at: now, data: needed(ask.jobId) })
    return asked
  })
}

const needed = (jobId: string) => ({
  code: 'unlock_needed',
  severity: 'warning',
  message: 'the backup is sealed to the recovery recipients alone: the job waits for an operator with a recovery key',
  hint: `Run where the recovery key is: holdfast unlock ${jobId} --identity FILE`,
})

/**
 * Keeps the data keys that an operator has sealed to the job's key. Throws `job_state` when the job does not wait for them, `conflict` when they are
 * sealed to a key that it does not have (any more), `unlock_expired` when it has waited long enough.
 */
export async function unlock(
  db: Db,
  of: { jobId: string; recipient: string; files: JobDataKey[]; by: string },
  now: Date,
): Promise<UnlockRow> {
  return await db.transaction(async (tx) => {
    const row = await requireWaiting(tx, of.jobId, now)
    if (row.recipient !== of.recipient) {
      throw new HoldfastError('conflict', `the keys are not sealed to the key that job ${of.jobId} has now`, {
        hint: 'Run `holdfast unlock` again, and compare the fingerprint again.',
      })
    }
    const set = { files: of.files, unlockedAt: now, unlockedBy: of.by }
    const unlocked = await written(tx.update(jobUnlocks).set(set).where(eq(jobUnlocks.jobId, of.jobId)).returning())
    const data = { code: 'unlocked', severity: 'info', message: `${of.by} has unlocked the backup for this job` }
    await addEvent(tx, { jobId: of.jobId, attempt: row.attempt, type: 'finding', at: now, data })
    return unlocked
  })
}

/** The row of a job that waits for an operator, the job locked. Throws `job_state` and `unlock_expired`. */
export async function requireWaiting(tx: Db, jobId: string, now: Date): Promise<UnlockRow> {
  const [job] = await tx.select().from(jobs).where(eq(jobs.id, jobId)).for('update')
  const row = await unlockOf(tx, jobId)
  const over = !job || isFinished(job.state) || job.cancelRequestedAt !== null
  if (over || !row || row.unlockedAt !== null) {
    const why = row?.unlockedAt && !over ? 'is unlocked already' : 'does not wait to be unlocked'
    throw new HoldfastError('job_state', `job ${jobId} ${why}`, {
      hint: 'Look at it with `holdfast jobs`. A job asks once it is at work on its host.',
    })
  }
  if (row.expiresAt <= now) throw expired(jobId)
  return row
}

export const expired = (jobId: string): HoldfastError =>
  new HoldfastError('unlock_expired', `nobody has unlocked job ${jobId} in time`, {
    hint: 'Start it again, and run `holdfast unlock` where the recovery key is.',
  })

export async function unlockOf(db: Db, jobId: string): Promise<UnlockRow | undefined> {
  const [row] = await db.select().from(jobUnlocks).where(eq(jobUnlocks.jobId, jobId))
  return row
}

/** The job is over: who unlocked it stays, what was unlocked does not. */
export async function forgetUnlocked(tx: Db, jobId: string): Promise<void> {
  await tx.update(jobUnlocks).set({ files: null }).where(eq(jobUnlocks.jobId, jobId))
}

async function written(rows: PromiseLike<UnlockRow[]>): Promise<UnlockRow> {
  const [row] = await rows
  if (row) return row
  throw new HoldfastError('internal', 'the unlock was not written')
}
