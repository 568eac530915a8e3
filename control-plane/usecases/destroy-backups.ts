import { asHoldfastError, HoldfastError } from '../../shared/errors.ts'
import type { Logger } from '../../shared/log.ts'
import { type BackupPlaceRef, backupFolder, manifestKey, objectKey } from '../../shared/manifest/layout.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { appendAudit } from '../catalog/audit.ts'
import type { BackupRow } from '../catalog/backups.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { objectsOf } from '../catalog/ledger.ts'
import { listLeftovers, listTombstoned, recordKeysDestroyed, recordRemoved, targetsOf } from '../catalog/removal.ts'

export interface DestroyDeps {
  readonly catalog: Catalog
  readonly log: Logger
  target(name: string): Promise<StorageTarget>
}

/**
 * Removes the objects of what was marked for removal longer than the grace period ago, and of failed backups whose last signed
 * address has expired. Every step may be repeated after a crash; what a target refuses (a lock, an outage) stays pending and is
 * tried again at the next call. Returns the ids that are gone.
 */
export async function destroyBackups(
  deps: DestroyDeps,
  now: Date,
  graceSeconds: number,
  signal?: AbortSignal,
): Promise<string[]> {
  const { db } = deps.catalog
  const due = [...(await listTombstoned(db, new Date(now.getTime() - graceSeconds * 1000))), ...(await listLeftovers(db, now))]
  const gone: string[] = []
  for (const backup of due) {
    signal?.throwIfAborted()
    try {
      await destroy(deps, backup, now, signal)
      gone.push(backup.id)
    } catch (error) {
      if (signal?.aborted) throw error
      deps.log.error(
        { err: asHoldfastError(error), backup: backup.id },
        'a backup is not wholly removed yet: destruction pending',
      )
    }
  }
  return gone
}

/** The keys first, on every target and in every version: from then on nothing opens what is left, however long it takes to go. */
async function destroy(deps: DestroyDeps, backup: BackupRow, now: Date, signal?: AbortSignal): Promise<void> {
  const { db } = deps.catalog
  const places = await Promise.all((await targetsOf(db, backup.id)).map((name) => deps.target(name)))
  const ledger = (await objectsOf(db, backup.id)).map((object) => objectKey(backup, object.name))
  for (const target of places) await removeKeys(target, backup, ledger, signal)
  await recordKeysDestroyed(db, backup.id, now)
  for (const target of places) {
    await removeProven(target, manifestKey(backup), signal)
    // a listing may lag: the ledger knows what was asked for
    for (const key of new Set([...ledger, ...(await listed(target, backupFolder(backup), signal))]))
      await target.remove(key, signal)
  }
  await deps.catalog.transaction(async (tx) => {
    await recordRemoved(tx, backup.id, now)
    const detail = { targets: places.map((target) => target.name), objects: ledger.length, status: backup.status }
    await appendAudit(
      tx,
      { actor: 'control-plane', action: 'backup.destroyed', subject: backup.id, outcome: 'done', detail },
      now,
    )
  })
}

/** `ledger`: keys of all objects that were asked for, since a listing may lag. Proven by `head`. */
export async function removeKeys(
  target: StorageTarget,
  backup: BackupPlaceRef,
  ledger: readonly string[],
  signal?: AbortSignal,
): Promise<void> {
  const folder = objectKey(backup, 'keys/')
  const keys = [...ledger.filter((key) => key.startsWith(folder)), ...(await listed(target, folder, signal))]
  for (const key of new Set(keys)) await removeProven(target, key, signal)
}

async function listed(target: StorageTarget, prefix: string, signal?: AbortSignal): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of target.list(prefix, signal)) keys.push(key)
  return keys
}

export async function removeProven(target: StorageTarget, key: string, signal?: AbortSignal): Promise<void> {
  await target.remove(key, signal)
  if ((await target.head(key, signal)) === null) return
  throw new HoldfastError('target_refused', `object ${key} is still on target ${target.name} after its removal`, {
    hint: 'Look for an object lock or a retention rule on the bucket; the removal is tried again every hour.',
  })
}
