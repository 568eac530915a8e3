import { jobKeyFingerprint } from '../../shared/age/job-key.ts'
import { HoldfastError, isHoldfastError } from '../../shared/errors.ts'
import type { JobCommand } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import type { JobContext } from './context.ts'
import type { JournalRecord } from './journal.ts'

/** Between two looks: a person takes minutes. */
const POLL_MS = 3000
/** After the control plane's own end of the wait, which is to be told first. */
const GRACE_MS = 60_000

/** Waits until an operator has sealed the data keys to the job's key. The control plane ends the wait; one that never does is not waited for for ever. */
export async function waitForUnlock(job: JobContext, recipient: string): Promise<void> {
  let giveUpAt = Number.POSITIVE_INFINITY
  job.report({ phase: 'unlock' })
  for (;;) {
    const answer = await ask(job, recipient)
    if (answer?.unlocked) return
    const now = job.clock.monotonicMs()
    // only ever sooner: the time that is left is not made longer by asking
    if (answer) giveUpAt = Math.min(giveUpAt, now + answer.remainingSeconds * 1000 + GRACE_MS)
    if (now > giveUpAt) {
      throw new HoldfastError('unlock_expired', `nobody has unlocked job ${job.command.jobId} in time`, {
        hint: 'Start it again, and run `holdfast unlock` where the recovery key is.',
      })
    }
    await job.clock.sleep(POLL_MS, job.signal)
  }
}

/** Null when many jobs of this host wait at once and this one asked too often: it asks again. */
async function ask(job: JobContext, recipient: string): Promise<{ unlocked: boolean; remainingSeconds: number } | null> {
  try {
    return await job.parent.askUnlock(recipient)
  } catch (error) {
    if (isHoldfastError(error, 'rate_limited')) return null
    throw error
  }
}

/** What a person on this host has to see, to compare it with what the control plane shows. Null for a job that need not be unlocked. */
export async function shownJobKey(record: Pick<JournalRecord, 'jobId' | 'command' | 'jobKey'>) {
  const backup = backupOf(record.command)
  if (!record.jobKey || !backup) return null
  // only here: an agent that runs has no other use for it
  const { recipientOf } = await import('../../shared/age/age.ts')
  const recipient = await recipientOf(record.jobKey)
  const fingerprint = jobKeyFingerprint({ jobId: record.jobId, backupId: backup.id, recipient })
  return { job: record.jobId, backup: backup.id, source: `${backup.host}/${backup.source}`, fingerprint }
}

/** That the job reads, or makes. */
export function backupOf({ work }: JobCommand) {
  if (work === undefined || work.$case === 'discover' || work.$case === 'preflight') return undefined
  return work.value.backup
}
