import { HoldfastError } from '../../shared/errors.ts'
import { manifestKey } from '../../shared/manifest/layout.ts'
import type { Manifest } from '../../shared/manifest/manifest.ts'
import { openReader } from '../../shared/repository/reader.ts'
import type { BackupReader, ObjectSource } from '../../shared/repository/repository.ts'
import type { Secret } from '../../shared/secret.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import type { RecoveryCredentials } from './credentials.ts'
import { dataKeys } from './data-keys.ts'
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
