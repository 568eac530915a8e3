import { requireRecipient } from '../../shared/age/age.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { getBackup } from '../catalog/backups.ts'
import { askUnlock as ask, expired, unlockOf } from '../catalog/unlocks.ts'
import type { ControlPlane } from './control-plane.ts'
import { anyWithheld, committedBackups, requireWithheld, sealedKeyFiles } from './key-files.ts'
import { requireRunning } from './running-job.ts'

/**
 * The agent tells its job's public key and asks whether an operator has unlocked the job. The key files are looked at before a person is called for
 * nothing: what is missing or damaged is the answer of the job.
 */
export async function askUnlock(
  cp: ControlPlane,
  agentId: string,
  request: { jobId: string; attempt: number; recipient: string },
): Promise<{ unlocked: boolean; remainingSeconds: number }> {
  const { job, backup } = await requireRunning(cp, agentId, request, ['restore', 'verify', 'test-restore'])
  const recipient = requireRecipient(request.recipient)
  if (!(await unlockOf(cp.catalog.db, job.id))) await requireSealed(cp, backup.id)
  const now = cp.clock.now()
  const expiresAt = new Date(now.getTime() + cp.settings.unlockSeconds * 1000)
  const row = await ask(cp.catalog.db, { ...request, recipient, expiresAt }, now)
  if (row.unlockedAt !== null) return { unlocked: true, remainingSeconds: 0 }
  const remainingSeconds = Math.ceil((row.expiresAt.getTime() - now.getTime()) / 1000)
  if (remainingSeconds <= 0) throw expired(job.id)
  return { unlocked: false, remainingSeconds }
}

async function requireSealed(cp: ControlPlane, backupId: string): Promise<void> {
  const backup = await getBackup(cp.catalog.db, backupId)
  const committed = await committedBackups(cp, backup)
  if (!anyWithheld(cp, committed)) {
    throw new HoldfastError('job_state', `backup ${backupId} needs nobody to unlock it`, {
      hint: 'Ask for its keys: the control plane opens it.',
    })
  }
  const target = await cp.target(backup.target)
  for (const one of committed) {
    const withheld = anyWithheld(cp, [one])
    for (const file of await sealedKeyFiles(target, one.facts)) if (withheld) await requireWithheld(cp, file)
  }
}
