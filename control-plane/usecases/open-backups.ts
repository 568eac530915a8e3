import { HoldfastError } from '../../shared/errors.ts'
import type { OpenedBackup } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import { objectKey } from '../../shared/manifest/layout.ts'
import type { Facts } from '../../shared/manifest/manifest.ts'
import { checkValue, damaged } from '../../shared/repository/format.ts'
import { openDataKeys, sealDataKeys } from '../../shared/repository/keys.ts'
import type { Secret } from '../../shared/secret.ts'
import { unlockOf } from '../catalog/unlocks.ts'
import type { ControlPlane } from './control-plane.ts'
import { anyWithheld, type CommittedBackup, committedBackups, keyFile } from './key-files.ts'
import { type RunningJob, requireRunning } from './running-job.ts'

/**
 * The data keys of exactly the backups that the command named, sealed again to the recipient that the agent made for this job: opened with the
 * fleet's identity, in the clear in this process's memory only and for no longer than this call; or, where that opens them not, as an operator
 * has sealed them.
 */
export async function openBackups(
  cp: ControlPlane,
  agentId: string,
  request: { jobId: string; attempt: number; recipient: string },
): Promise<OpenedBackup[]> {
  const running = await requireRunning(cp, agentId, request, ['restore', 'verify', 'test-restore'])
  const { job, backup } = running
  const committed = await committedBackups(cp, backup)
  const unlocked = anyWithheld(cp, committed)
  const keysOf = unlocked ? await unlockedKeys(cp, running, request.recipient) : fleetKeys(cp, running, request.recipient)
  const opened: OpenedBackup[] = []
  for (const of of committed) {
    const { ref, bytes, sha256 } = of
    opened.push({
      backup: { host: ref.host, source: ref.source, id: ref.id, manifestSha256: sha256 },
      manifest: bytes,
      keys: await keysOf(of),
    })
  }
  await cp.audit({
    actor: `agent:${agentId}`,
    action: 'backup.open',
    subject: backup.id,
    outcome: 'done',
    detail: { job: job.id, kind: job.kind, backups: committed.map(({ ref }) => ref.id), unlocked },
  })
  return opened
}

type KeysOf = (backup: CommittedBackup) => Promise<Buffer[]>

function fleetKeys(cp: ControlPlane, { backup }: RunningJob, recipient: string): KeysOf {
  return async ({ ref, facts }) => {
    const target = await cp.target(backup.target)
    const keys: Buffer[] = []
    for (const key of facts.keys) {
      const dataKey = await dataKeyOf(cp, facts, key, await keyFile(target, objectKey(ref, key.name)))
      keys.push(await sealDataKeys(ref, [{ attempt: key.attempt, dataKey }], [recipient]))
    }
    return keys
  }
}

/** What an operator has sealed to exactly this key. An agent that never asked does not know that it has to. */
async function unlockedKeys(cp: ControlPlane, { job, backup }: RunningJob, recipient: string): Promise<KeysOf> {
  const row = await unlockOf(cp.catalog.db, job.id)
  if (row?.recipient !== recipient || row.files === null) {
    throw new HoldfastError(
      'not_supported',
      `backup ${backup.id} is sealed to the recovery recipients alone, and the agent did not wait for it to be unlocked`,
      { hint: 'Update the agent: it is older than backups that the control plane cannot open.' },
    )
  }
  const { files } = row
  return async ({ ref }) => files.filter((file) => file.backup_id === ref.id).map((file) => Buffer.from(file.file, 'base64'))
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
