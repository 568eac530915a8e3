import { HoldfastError } from '../../shared/errors.ts'
import { type BackupRow, getBackup } from '../catalog/backups.ts'
import type { Db } from '../catalog/catalog.ts'
import { getJob, type JobRow } from '../catalog/jobs.ts'
import type { JobKind } from '../domain/job.ts'
import type { ControlPlane } from './control-plane.ts'

export interface RunningJob {
  readonly job: JobRow
  readonly backup: BackupRow
}

/**
 * The job that an agent's call names, when it is that agent's, the attempt is its current one and it is at work. Everything else is
 * refused: a stolen certificate reaches no other agent's jobs, and its own host's backups only by a job that was issued for them.
 */
export async function requireRunning(
  cp: ControlPlane,
  agentId: string,
  call: { jobId: string; attempt: number },
  kinds: readonly JobKind[],
  db: Db = cp.catalog.db,
): Promise<RunningJob> {
  const job = await getJob(db, call.jobId)
  if (job.agentId !== agentId || !kinds.includes(job.kind)) {
    await cp.audit({
      actor: `agent:${agentId}`,
      action: 'objects.refused',
      subject: call.jobId,
      outcome: 'refused',
      detail: { reason: job.agentId === agentId ? `a ${job.kind} job does not allow it` : "another agent's job" },
    })
    // the same answer as for a job that does not exist: nothing is learned of other agents' jobs
    throw new HoldfastError('not_found', `job ${call.jobId} is not one of this agent's that allows this`)
  }
  const atWork = job.state === 'running' || job.state === 'dispatched' || job.state === 'committing'
  if (!atWork || job.attempt !== call.attempt) {
    throw new HoldfastError('attempt_fenced', `attempt ${call.attempt} of job ${call.jobId} is not the one that runs`, {
      hint: 'The attempt was given up; a later one may be at work.',
    })
  }
  const backupId = job.backupId
  if (backupId === null) throw new HoldfastError('job_state', `job ${call.jobId} has no backup`)
  return { job, backup: await getBackup(db, backupId) }
}
