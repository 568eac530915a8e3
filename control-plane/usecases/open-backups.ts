import { HoldfastError } from '../../shared/errors.ts'
import type { OpenedBackup } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import { objectKey } from '../../shared/manifest/layout.ts'
import { verifyManifest } from '../../shared/manifest/verify.ts'
import { rewrapDataKeys } from '../../shared/repository/keys.ts'
import { type BackupRef, closure, manifestOf } from '../catalog/backups.ts'
import type { ControlPlane } from './control-plane.ts'
import { requireRunning } from './running-job.ts'

/**
 * The data keys of exactly the backups that the command named, opened with the fleet's identity and sealed again to the recipient that
 * the agent made for this job. In the clear they exist in this process's memory only, and for no longer than this call.
 */
export async function openBackups(
  cp: ControlPlane,
  agentId: string,
  request: { jobId: string; attempt: number; recipient: string },
): Promise<OpenedBackup[]> {
  const { job, backup } = await requireRunning(cp, agentId, request, ['restore', 'verify', 'test-restore'])
  const refs: BackupRef[] = [backup, ...(await closure(cp.catalog.db, backup.id))]
  const opened: OpenedBackup[] = []
  for (const ref of refs) opened.push(await openOne(cp, ref, backup.target, request.recipient))
  await cp.audit({
    actor: `agent:${agentId}`,
    action: 'backup.open',
    subject: backup.id,
    outcome: 'done',
    detail: { job: job.id, kind: job.kind, backups: refs.map((ref) => ref.id) },
  })
  return opened
}

async function openOne(cp: ControlPlane, ref: BackupRef, targetName: string, recipient: string): Promise<OpenedBackup> {
  const stored = await manifestOf(cp.catalog.db, ref.id)
  if (!stored) {
    throw new HoldfastError('object_missing', `backup ${ref.id} has no manifest`, {
      hint: 'It was never committed; choose another backup.',
    })
  }
  const { manifest } = verifyManifest(stored.bytes, { verifyingKey: cp.fleet.verifyingKeyText })
  const target = await cp.target(targetName)
  const keys: Buffer[] = []
  for (const key of manifest.facts.keys) {
    const file = await target.get(objectKey(ref, key.name))
    keys.push(await rewrapDataKeys(file, [cp.fleet.identity], [recipient]))
  }
  return {
    backup: { host: ref.host, source: ref.source, id: ref.id, manifestSha256: stored.sha256 },
    manifest: stored.bytes,
    keys,
  }
}
