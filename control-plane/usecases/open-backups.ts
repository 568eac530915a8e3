import { asHoldfastError, HoldfastError } from '../../shared/errors.ts'
import type { OpenedBackup } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import { objectKey } from '../../shared/manifest/layout.ts'
import type { Facts } from '../../shared/manifest/manifest.ts'
import { verifyManifest } from '../../shared/manifest/verify.ts'
import { checkValue, damaged } from '../../shared/repository/format.ts'
import { openDataKeys, sealDataKeys } from '../../shared/repository/keys.ts'
import type { Secret } from '../../shared/secret.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
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
    const dataKey = await dataKeyOf(cp, manifest.facts, key, await keyFile(target, objectKey(ref, key.name)))
    keys.push(await sealDataKeys(ref, [{ attempt: key.attempt, dataKey }], [recipient]))
  }
  return {
    backup: { host: ref.host, source: ref.source, id: ref.id, manifestSha256: stored.sha256 },
    manifest: stored.bytes,
    keys,
  }
}

/** Errors say which object it was: a verification reports it. */
async function keyFile(target: StorageTarget, name: string): Promise<Buffer> {
  try {
    return await target.get(name)
  } catch (error) {
    const { code, message, hint, retry } = asHoldfastError(error)
    throw new HoldfastError(code, message, { hint, retry, cause: error, context: { key: name } })
  }
}

/**
 * The key that the signed manifest means, by its check value, and no other: whoever writes the bucket could lay the key file of another
 * host's backup in this place, and have its key handed to an agent that may not read it.
 */
async function dataKeyOf(cp: ControlPlane, facts: Facts, key: Facts['keys'][number], file: Buffer): Promise<Secret<Buffer>> {
  const name = objectKey(facts, key.name)
  const { keys } = await openDataKeys(file, [cp.fleet.identity], name)
  const found = keys.find(
    ({ attempt, dataKey }) =>
      attempt === key.attempt && checkValue(dataKey.reveal(), facts, attempt).toString('hex') === key.check,
  )
  if (found) return found.dataKey
  throw damaged(name, 'it does not hold the key that the manifest means')
}
