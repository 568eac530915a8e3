import { createHash } from 'node:crypto'
import { asHoldfastError, HoldfastError, isHoldfastError } from '../../shared/errors.ts'
import { objectKey } from '../../shared/manifest/layout.ts'
import type { Facts } from '../../shared/manifest/manifest.ts'
import { verifyManifest } from '../../shared/manifest/verify.ts'
import { damaged, LIMITS } from '../../shared/repository/format.ts'
import { openDataKeys } from '../../shared/repository/keys.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { type BackupRef, closure, manifestOf } from '../catalog/backups.ts'
import { isWithheld } from '../domain/recipients.ts'
import type { ControlPlane } from './control-plane.ts'

/** A backup that a job reads: its manifest as committed, checked, and its bytes. */
export interface CommittedBackup {
  readonly ref: BackupRef
  readonly bytes: Buffer
  readonly sha256: Buffer
  readonly facts: Facts
}

/** The backup and all that it leans on. Throws `object_missing` for one that was never committed. */
export async function committedBackups(cp: ControlPlane, backup: BackupRef): Promise<CommittedBackup[]> {
  const refs: BackupRef[] = [backup, ...(await closure(cp.catalog.db, backup.id))]
  return await Promise.all(
    refs.map(async (ref) => {
      const stored = await manifestOf(cp.catalog.db, ref.id)
      if (!stored) {
        throw new HoldfastError('object_missing', `backup ${ref.id} has no manifest`, {
          hint: 'It was never committed; choose another backup.',
        })
      }
      const { manifest } = verifyManifest(stored.bytes, { verifyingKey: cp.fleet.verifyingKeyText })
      return { ref, ...stored, facts: manifest.facts }
    }),
  )
}

/** One of them this control plane cannot open: the rest are opened by an operator too, so that there is one way. */
export function anyWithheld(cp: ControlPlane, backups: readonly CommittedBackup[]): boolean {
  return backups.some(({ facts }) => isWithheld(facts.recipients, cp.fleet.recipient))
}

/** Bytes of a key file. Errors say which object it was: a verification reports it. */
export async function keyFile(target: StorageTarget, key: string, signal?: AbortSignal): Promise<Buffer> {
  try {
    return await target.get(key, { signal })
  } catch (error) {
    const { code, message, hint, retry } = asHoldfastError(error)
    throw new HoldfastError(code, message, { hint, retry, cause: error, context: { key } })
  }
}

/** The key files that a manifest names, each the one that was committed: what cannot be opened here is known by its checksum. */
export async function sealedKeyFiles(
  target: StorageTarget,
  facts: Facts,
  signal?: AbortSignal,
): Promise<Array<{ name: string; key: string; bytes: Buffer }>> {
  const names = [...new Set(facts.keys.map((row) => row.name))]
  return await Promise.all(
    names.map(async (name) => {
      const key = objectKey(facts, name)
      const object = facts.objects.find((candidate) => candidate.name === name)
      if (!object || object.size > LIMITS.keyFile) throw damaged(key, 'no key file is so large')
      const bytes = await keyFile(target, key, signal)
      if (createHash('sha256').update(bytes).digest('hex') === object.sha256) return { name, key, bytes }
      throw damaged(key, 'it is not the key file that was committed')
    }),
  )
}

/** Throws `backup_invalid` when the fleet opens what its manifest says it cannot. */
export async function requireWithheld(cp: ControlPlane, file: { key: string; bytes: Buffer }): Promise<void> {
  try {
    await openDataKeys(file.bytes, [cp.fleet.identity], file.key)
  } catch (error) {
    if (isHoldfastError(error, 'key_missing')) return
    throw error
  }
  throw new HoldfastError('backup_invalid', `${file.key} opens with the fleet's identity, which its manifest leaves out`, {
    hint: 'The agent that made it does not seal as it is told: update it, look at it, and make the backup again.',
    context: { key: file.key },
  })
}
