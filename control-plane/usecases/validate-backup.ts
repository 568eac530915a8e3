import { asHoldfastError, isHoldfastError } from '../../shared/errors.ts'
import { manifestKey, objectKey } from '../../shared/manifest/layout.ts'
import type { Manifest } from '../../shared/manifest/manifest.ts'
import { validateObjects } from '../../shared/manifest/validate-objects.ts'
import { verifyManifest } from '../../shared/manifest/verify.ts'
import { openDataKeys } from '../../shared/repository/keys.ts'
import { openReader } from '../../shared/repository/reader.ts'
import type { Secret } from '../../shared/secret.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { type BackupRef, type BackupRow, closure, manifestOf } from '../catalog/backups.ts'
import { isWithheld } from '../domain/recipients.ts'
import type { ControlPlane } from './control-plane.ts'
import { requireWithheld, sealedKeyFiles } from './key-files.ts'

export interface Validation {
  readonly valid: boolean
  /** Codes, each once. */
  readonly errors: string[]
  readonly details: Array<{ code: string; object?: string; message: string }>
  /** What could not be looked at, and why: `valid` says nothing about it. */
  readonly not_checked: string[]
}

/** Blocks opened, own and leaned-on ones each. */
const SAMPLE_BLOCKS = 8
/** At most so many details: a lost bucket has as many errors as it had objects. */
const MAX_DETAILS = 200

/**
 * Cheap and automatic: the signed manifest is the one that was committed, every object that the backup needs is there and has its size
 * and checksum (by the store's word, no body is read), the keys open, and a random sample of blocks does. What is wrong is the answer. Of a
 * backup that is sealed to the recovery recipients alone no block opens here, and the answer says so.
 */
export async function validateBackup(cp: ControlPlane, backup: BackupRow, signal: AbortSignal): Promise<Validation> {
  const check = new Check()
  const target = await cp.target(backup.target)
  const manifest = await checkManifest(cp, target, backup, { check, signal })
  if (!manifest) {
    check.add('object_missing', manifestKey(backup), `backup ${backup.id} was never committed`)
    return check.result()
  }
  const leansOn = new Map<string, Manifest>()
  for (const ref of await closure(cp.catalog.db, backup.id)) {
    const leaned = await checkManifest(cp, target, ref, { check, signal })
    if (leaned) leansOn.set(ref.id, leaned)
  }
  const head = (key: string) => target.head(key, signal)
  for (const { code, key, message } of await validateObjects(manifest, leansOn.values(), head)) check.add(code, key, message)
  const locked = [manifest, ...leansOn.values()].filter(({ facts }) => isWithheld(facts.recipients, cp.fleet.recipient))
  if (locked.length > 0) return await checkLocked(cp, target, locked, check, signal)
  // a sample of a backup that lacks objects would only say so again
  if (check.empty) await checkSample(cp, target, { manifest, leansOn }, check, signal)
  return check.result()
}

class Check {
  readonly #details: Validation['details'] = []
  readonly #codes = new Set<string>()

  get empty(): boolean {
    return this.#codes.size === 0
  }

  add(code: string, object: string | undefined, message: string): void {
    this.#codes.add(code)
    if (this.#details.length < MAX_DETAILS) this.#details.push({ code, ...(object ? { object } : {}), message })
  }

  /** What the store or the repository threw: damage is a finding; a store that cannot be reached says nothing of the backup. */
  async collect(object: string | undefined, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      const failure = asHoldfastError(error)
      if (failure.retry || failure.code === 'internal') throw failure
      const key = failure.context?.key
      this.add(failure.code, object ?? (typeof key === 'string' ? key : undefined), failure.message)
    }
  }

  result(notChecked: string[] = []): Validation {
    return { valid: this.empty, errors: [...this.#codes], details: this.#details, not_checked: notChecked }
  }
}

async function checkManifest(
  cp: ControlPlane,
  target: StorageTarget,
  ref: BackupRef,
  { check, signal }: { check: Check; signal: AbortSignal },
): Promise<Manifest | null> {
  const key = manifestKey(ref)
  const recorded = await manifestOf(cp.catalog.db, ref.id)
  if (!recorded) return null
  await check.collect(key, async () => {
    const stored = await target.get(key, { signal })
    if (!stored.equals(recorded.bytes)) check.add('manifest_forged', key, `${key} is not the manifest that was committed`)
  })
  return verifyManifest(recorded.bytes, { verifyingKey: cp.fleet.verifyingKeyText }).manifest
}

/** The key files are read whole: they are small, and each has to be the one that was committed and stay shut for the fleet. */
async function checkLocked(
  cp: ControlPlane,
  target: StorageTarget,
  locked: readonly Manifest[],
  check: Check,
  signal: AbortSignal,
): Promise<Validation> {
  for (const { facts } of check.empty ? locked : []) {
    await check.collect(undefined, async () => {
      for (const file of await sealedKeyFiles(target, facts, signal)) await requireWithheld(cp, file)
    })
  }
  return check.result([
    'a random sample of blocks: the backup, or one that it leans on, is sealed to the recovery recipients alone',
    'whether a recovery key opens the key files: a test restore by hand proves it',
  ])
}

async function checkSample(
  cp: ControlPlane,
  target: StorageTarget,
  { manifest, leansOn }: { manifest: Manifest; leansOn: ReadonlyMap<string, Manifest> },
  check: Check,
  signal: AbortSignal,
): Promise<void> {
  const keys = new Map<string, Secret<Buffer>>()
  for (const { facts } of [manifest, ...leansOn.values()]) {
    for (const { name } of facts.keys) {
      const key = objectKey(facts, name)
      await check.collect(key, async () => {
        const opened = await openDataKeys(await target.get(key, { signal }), [cp.fleet.identity], key)
        for (const row of opened.keys) keys.set(`${facts.id} ${row.attempt}`, row.dataKey)
      })
    }
  }
  await check.collect(manifestKey(manifest.facts), async () => {
    const reader = await openReader({
      manifest,
      leansOn,
      keys: (backupId, attempt) => keys.get(`${backupId} ${attempt}`),
      objects: { get: (key, range, abort) => target.get(key, { ...range, signal: abort }) },
      signal,
    })
    try {
      await reader.sample(SAMPLE_BLOCKS, { onError: (error) => check.add(error.code, error.key, error.message) })
    } finally {
      await reader.close()
    }
  })
}

/** True for what says that the store, not the backup, is at fault. */
export const storeIsAway = (error: unknown): boolean =>
  isHoldfastError(error, 'target_unreachable') || isHoldfastError(error, 'target_denied')
