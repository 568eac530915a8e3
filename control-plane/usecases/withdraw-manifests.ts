import { asHoldfastError } from '../../shared/errors.ts'
import { type BackupPlaceRef, manifestKey, objectKey } from '../../shared/manifest/layout.ts'
import { appendAudit } from '../catalog/audit.ts'
import { objectsOf } from '../catalog/ledger.ts'
import { listToWithdraw, recordWithdrawn, targetsOf } from '../catalog/removal.ts'
import { type DestroyDeps, removeKeys, removeProven } from './destroy-backups.ts'

/**
 * A backup that failed after its commit had begun (it did not validate, its deadline passed) may have its manifest in the store, signed by
 * the fleet: whoever has the store alone would believe it. So manifest and keys go at once, in every version, and not only with the rest
 * of what the attempt left, which has to wait for the last signed address. Every step may be repeated, by whichever control plane; what a
 * target refuses is tried again at the next call, unless `later` has it. Returns the ids that could not be withdrawn.
 */
export async function withdrawManifests(
  deps: DestroyDeps,
  now: Date,
  { signal, later }: { signal?: AbortSignal; later?: ReadonlySet<string> } = {},
): Promise<string[]> {
  const failed: string[] = []
  for (const backup of await listToWithdraw(deps.catalog.db)) {
    if (later?.has(backup.id)) continue
    signal?.throwIfAborted()
    try {
      await withdraw(deps, backup, now, signal)
      deps.log.warn({ backup: backup.id }, 'the manifest of a failed backup was taken out of the store')
    } catch (error) {
      if (signal?.aborted) throw error
      failed.push(backup.id)
      deps.log.error(
        { err: asHoldfastError(error), backup: backup.id },
        'the manifest of a failed backup is still in the store: its removal is tried again',
      )
    }
  }
  return failed
}

async function withdraw(
  { catalog, target }: DestroyDeps,
  backup: BackupPlaceRef,
  now: Date,
  signal: AbortSignal | undefined,
): Promise<void> {
  const ledger = (await objectsOf(catalog.db, backup.id)).map((object) => objectKey(backup, object.name))
  const targets = await targetsOf(catalog.db, backup.id)
  for (const name of targets) {
    const store = await target(name)
    await removeProven(store, manifestKey(backup), signal)
    await removeKeys(store, backup, ledger, signal)
  }
  await catalog.transaction(async (tx) => {
    await recordWithdrawn(tx, backup.id, now)
    const entry = { actor: 'control-plane', action: 'backup.withdrawn', subject: backup.id, outcome: 'done' } as const
    await appendAudit(tx, { ...entry, detail: { targets } }, now)
  })
}
