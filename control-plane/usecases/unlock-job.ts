import { jobKeyFingerprint } from '../../shared/age/job-key.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { actorOf, type Caller } from '../api/operations.ts'
import type { LockedKeysView, UnlockJob } from '../api/schemas/unlock.ts'
import { getBackup } from '../catalog/backups.ts'
import { getJob, type JobView } from '../catalog/jobs.ts'
import { requireWaiting, unlock } from '../catalog/unlocks.ts'
import type { ControlPlane } from './control-plane.ts'
import { type CommittedBackup, committedBackups, sealedKeyFiles } from './key-files.ts'
import { viewUnlock } from './views.ts'

/** Of all key files that are answered with at once. */
const MAX_BYTES = 16 * 1024 * 1024
const AGE = Buffer.from('age-encryption.org/v1\n')

/** What an operator needs to unlock the job: its public key, and the sealed key files of what it reads. Throws `job_state`, `unlock_expired`. */
export async function lockedKeys(cp: ControlPlane, jobId: string): Promise<LockedKeysView> {
  await cp.catalog.transaction((tx) => requireWaiting(tx, jobId, cp.clock.now()))
  const { job, committed, target } = await backupsOf(cp, jobId)
  const unlockView = viewUnlock(job)
  if (!unlockView) throw new HoldfastError('job_state', `job ${jobId} does not wait to be unlocked`)
  let bytes = 0
  const backups: LockedKeysView['backups'] = []
  for (const { facts } of committed) {
    const files = await sealedKeyFiles(target, facts)
    bytes += files.reduce((sum, file) => sum + file.bytes.length, 0)
    if (bytes > MAX_BYTES) throw new HoldfastError('too_large', `the key files that job ${jobId} needs are over 16 MiB`)
    backups.push({
      id: facts.id,
      source: `${facts.host}/${facts.source}`,
      keys: facts.keys.map(({ attempt, check, name }) => ({ attempt, check, name })),
      files: files.map((file) => ({ name: file.name, data: file.bytes.toString('base64') })),
    })
  }
  return { job_id: jobId, backup_id: job.backupId ?? '', unlock: unlockView, backups }
}

/**
 * Keeps the data keys that an operator has sealed to the job's key, for its agent to fetch. Nothing here can open them: what is checked is that they
 * are for this job's key as it is now, that they are age files, and that there is exactly one for each key that the manifests name.
 */
export async function unlockJob(cp: ControlPlane, by: Caller, jobId: string, request: UnlockJob): Promise<JobView> {
  await cp.catalog.transaction((tx) => requireWaiting(tx, jobId, cp.clock.now()))
  const { job, committed } = await backupsOf(cp, jobId)
  requireComplete(committed, request)
  const files = request.keys.map((key) => ({ ...key }))
  await unlock(cp.catalog.db, { jobId, recipient: request.recipient, files, by: actorOf(by) }, cp.clock.now())
  const backupId = job.backupId ?? ''
  await cp.audit({
    actor: actorOf(by),
    action: 'backup.unlock',
    subject: backupId,
    outcome: 'done',
    detail: {
      job: jobId,
      agent: job.agent,
      recipient: request.recipient,
      fingerprint: jobKeyFingerprint({ jobId, backupId, recipient: request.recipient }),
      backups: committed.map(({ ref }) => ref.id),
    },
  })
  return getJob(cp.catalog.db, jobId)
}

async function backupsOf(cp: ControlPlane, jobId: string) {
  const job = await getJob(cp.catalog.db, jobId)
  const backup = await getBackup(cp.catalog.db, job.backupId ?? '')
  return { job, committed: await committedBackups(cp, backup), target: await cp.target(backup.target) }
}

function requireComplete(committed: readonly CommittedBackup[], request: UnlockJob): void {
  const nameOf = (id: string, attempt: number) => `${id} attempt ${attempt}`
  const needed = new Set(committed.flatMap(({ facts }) => facts.keys.map(({ attempt }) => nameOf(facts.id, attempt))))
  for (const { backup_id, attempt, file } of request.keys) {
    const name = nameOf(backup_id, attempt)
    if (!needed.delete(name)) throw refused(`the key of ${name} is there twice, or is none that the job needs`)
    if (!Buffer.from(file, 'base64').subarray(0, AGE.length).equals(AGE)) throw refused(`the key of ${name} is no age file`)
  }
  const [missing] = needed
  if (missing !== undefined) throw refused(`the key of ${missing} is missing`)
}

const refused = (why: string): HoldfastError =>
  new HoldfastError('invalid_argument', `the unlock is refused: ${why}`, {
    hint: 'Let `holdfast unlock` make it, of the same version as the control plane.',
  })
