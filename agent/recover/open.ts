import { HoldfastError, isHoldfastError } from '../../shared/errors.ts'
import { keysName, manifestKey, objectKey } from '../../shared/manifest/layout.ts'
import type { Facts, Manifest } from '../../shared/manifest/manifest.ts'
import { checkValue } from '../../shared/repository/format.ts'
import { openDataKeys } from '../../shared/repository/keys.ts'
import { openReader } from '../../shared/repository/reader.ts'
import type { BackupReader, ObjectSource } from '../../shared/repository/repository.ts'
import type { Secret } from '../../shared/secret.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import type { RecoveryCredentials } from './credentials.ts'
import { keysState, type ManifestPlace, manifestPlaces, readManifest } from './list.ts'

export interface OpenedRecovery {
  readonly reader: BackupReader
  readonly manifest: Manifest
  readonly origin: 'verified' | 'not verified'
}

/**
 * Opens a backup with nothing but its store and an identity. `wanted`: an id, a unique beginning or ending of one, or `latest:host/name`. Throws `not_found`,
 * `ambiguous`, `manifest_forged`, `key_missing`, `object_missing`, `object_damaged`.
 */
export async function openForRecovery(
  store: StorageTarget,
  wanted: string,
  credentials: RecoveryCredentials,
  { signal, scratch }: { readonly signal: AbortSignal; readonly scratch: string },
): Promise<OpenedRecovery> {
  const { verifyingKey, identities } = credentials
  const place = await findBackup(store, wanted, signal)
  const { manifest, origin } = await readManifest(store, place, verifyingKey, signal)
  const leansOn = new Map<string, Manifest>()
  for (const { host, source, id } of manifest.facts.leans_on) {
    const leaned = { host, source, id, key: manifestKey({ host, source, id }) }
    leansOn.set(id, (await readManifest(store, leaned, verifyingKey, signal)).manifest)
  }
  const keys = new Map<string, Secret<Buffer>>()
  for (const { facts } of [manifest, ...leansOn.values()]) {
    for (const [attempt, key] of await dataKeys(store, facts, identities, signal)) keys.set(`${facts.id} ${attempt}`, key)
  }
  const objects: ObjectSource = { get: (key, range, abort) => store.get(key, { ...range, signal: abort }) }
  const keyOf = (id: string, attempt: number) => keys.get(`${id} ${attempt}`)
  const reader = await openReader({ manifest, leansOn, keys: keyOf, objects, signal, scratch })
  return { reader, manifest, origin }
}

const LATEST = 'latest:'

async function findBackup(store: StorageTarget, wanted: string, signal: AbortSignal): Promise<ManifestPlace> {
  if (wanted.startsWith(LATEST)) return latest(store, wanted.slice(LATEST.length), signal)
  const found: ManifestPlace[] = []
  for await (const place of manifestPlaces(store, signal)) {
    if (place.id === wanted) return place
    if (wanted.length > 0 && (place.id.startsWith(wanted) || place.id.endsWith(wanted))) found.push(place)
  }
  const [only, second] = found
  if (only && !second) return only
  if (!only) {
    throw new HoldfastError('not_found', `the store has no backup ${JSON.stringify(wanted)}`, {
      hint: 'See what it holds with: holdfast-agent recover list.',
    })
  }
  throw new HoldfastError('ambiguous', `${JSON.stringify(wanted)} fits ${found.length} backups`, {
    hint: 'Give more of the id.',
    context: { ids: found.slice(0, 20).map(({ id }) => id) },
  })
}

/** The newest that was not deleted. A manifest that is not to be believed is no reason to take an older one unasked: reading it says so. */
async function latest(store: StorageTarget, source: string, signal: AbortSignal): Promise<ManifestPlace> {
  const found: ManifestPlace[] = []
  for await (const place of manifestPlaces(store, signal)) if (`${place.host}/${place.source}` === source) found.push(place)
  found.sort((a, b) => (a.id < b.id ? 1 : -1))
  for (const place of found) if ((await keysState(store, place, signal)) === 'present') return place
  throw new HoldfastError('not_found', `the store has no backup of ${JSON.stringify(source)}`, {
    hint: 'Name the source as host/name; see what the store holds with: holdfast-agent recover list.',
  })
}

/** The data keys that the facts need. The file that they name first, then those that rotations have added. */
async function dataKeys(
  store: StorageTarget,
  facts: Facts,
  identities: readonly Secret[],
  signal: AbortSignal,
): Promise<Map<number, Secret<Buffer>>> {
  const missing = new Map(facts.keys.map(({ attempt, check }) => [attempt, check]))
  const found = new Map<number, Secret<Buffer>>()
  let last: unknown
  for await (const name of keyFiles(store, facts, signal)) {
    try {
      for (const { attempt, dataKey } of await openKeyFile(store, facts, name, identities, signal)) {
        // the check value decides: a file of another backup, or a forged one, helps nobody
        if (missing.get(attempt) !== checkValue(dataKey.reveal(), facts, attempt).toString('hex')) continue
        missing.delete(attempt)
        found.set(attempt, dataKey)
      }
    } catch (error) {
      if (!isHoldfastError(error) || error.retry) throw error
      last = error
    }
    if (missing.size === 0) return found
  }
  throw new HoldfastError('key_missing', `no key file of ${facts.id} opens with the identity at hand`, {
    hint: `It was sealed to: ${facts.recipients.join(', ')}. A backup without key files was deleted.`,
    context: { key: objectKey(facts, keysName(facts.attempt)) },
    cause: last,
  })
}

async function openKeyFile(store: StorageTarget, facts: Facts, name: string, identities: readonly Secret[], signal: AbortSignal) {
  const key = objectKey(facts, name)
  const bytes = await store.get(key, { signal })
  return (await openDataKeys(bytes, identities, key)).keys
}

async function* keyFiles(store: StorageTarget, facts: Facts, signal: AbortSignal): AsyncGenerator<string> {
  const named = new Set(facts.keys.map(({ name }) => name))
  yield* named
  const folder = objectKey(facts, '')
  for await (const { key } of store.list(objectKey(facts, 'keys/'), signal)) {
    const name = key.slice(folder.length)
    if (/^keys\/[1-9][0-9]{0,5}$/.test(name) && !named.has(name)) yield name
  }
}
