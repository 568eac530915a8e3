import { asHoldfastError } from '../../shared/errors.ts'
import { getBackup } from '../catalog/backups.ts'
import { type AttemptRef, beginValidation, finishAttempt } from '../catalog/job-reports.ts'
import { getJob, type JobRow } from '../catalog/jobs.ts'
import type { ControlPlane } from './control-plane.ts'
import { leaseEnd } from './receive-report.ts'
import { recordValidation } from './record-verification.ts'
import { validateBackup } from './validate-backup.ts'

/**
 * From the written manifest to a good backup: it is not declared good until it has validated. May be run again by any control plane after
 * a crash. A store that is away ends nothing: the job's lease runs out and the next one takes it over, until the job's deadline.
 */
export async function finishBackup(cp: ControlPlane, job: Pick<JobRow, 'id' | 'attempt'>, signal: AbortSignal): Promise<void> {
  const ref: AttemptRef = { by: 'control-plane', jobId: job.id, attempt: job.attempt }
  const row = await beginValidation(cp.catalog.db, ref, cp.clock.now(), leaseEnd(cp))
  const backup = await getBackup(cp.catalog.db, row.backupId ?? '')
  const started = cp.clock.now()
  try {
    const validation = await validateBackup(cp, backup, signal)
    await recordValidation(cp, backup, validation, { startedAt: started, jobId: job.id })
    await finishAttempt(
      cp.catalog.db,
      ref,
      validation.valid ? { outcome: 'succeeded' } : { outcome: 'failed', error: invalid(validation.details), retryable: false },
      cp.clock.now(),
    )
    cp.log.info({ backup: backup.id, job: job.id, valid: validation.valid, errors: validation.errors }, 'backup validated')
  } catch (error) {
    const failure = asHoldfastError(error)
    if (failure.retry) {
      cp.log.warn({ err: failure, backup: backup.id, job: job.id }, 'validation is tried again')
      return
    }
    const reason = { code: failure.code, message: `validation failed: ${failure.message}`, hint: failure.hint }
    await finishAttempt(cp.catalog.db, ref, { outcome: 'failed', error: reason, retryable: false }, cp.clock.now())
  }
  // the next of the agent's jobs; the manifest that has to go when it failed
  cp.wake()
  cp.finished(await getJob(cp.catalog.db, job.id))
}

function invalid(details: ReadonlyArray<{ message: string }>) {
  return {
    code: 'backup_invalid',
    message: `the backup did not validate: ${details[0]?.message ?? 'no detail'}`,
    hint: 'Make the backup again; look at the store if it happens twice.',
  }
}
