import { HoldfastError, isHoldfastError } from '../../shared/errors.ts'
import { readFleetObject } from '../../shared/manifest/fleet-object.ts'
import { type HistoryFinding, type HistoryLink, linkOf, verifyHistory } from '../../shared/manifest/history.ts'
import { FLEET_OBJECT, objectKey } from '../../shared/manifest/layout.ts'
import { type VerifiedManifest, verifyManifest } from '../../shared/manifest/verify.ts'
import type { Secret } from '../../shared/secret.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { opensKeys } from './data-keys.ts'

/** A backup as its manifest shows it. */
export interface RecoverableBackup {
  readonly host: string
  readonly source: string
  readonly id: string
  readonly engine: string
  readonly type: string
  readonly committedAt: string
  /** Rounded by chance, within about 3 %: the catalog of the control plane has the exact figure. */
  readonly readBytes: number
  readonly storedBytes: number
  readonly leansOn: readonly string[]
  readonly origin: 'verified' | 'not verified'
  /** Whether a key is there at all: a manifest without keys reads as deleted. */
  readonly state: 'present' | 'deleted'
  /** Whether the identities open its keys and those of all that it leans on; null where none were given. */
  readonly opens: boolean | null
}

export interface RecoveryList {
  /** Oldest first. */
  readonly backups: readonly RecoverableBackup[]
  /** Manifests that are not to be believed, and histories that do not fit together. */
  readonly problems: ReadonlyArray<{ readonly key: string; readonly code: string; readonly message: string }>
}

const MANIFEST =
  /^([a-z0-9][a-z0-9._-]{0,62})\/([a-z0-9][a-z0-9._-]{0,62})\/(\d{8}T\d{6}Z-[0-9a-hjkmnp-tv-z]{10})\/manifest\.json$/

export interface ManifestPlace {
  readonly host: string
  readonly source: string
  readonly id: string
  readonly key: string
}

/** Places of all manifests in a store, each once: a listing may repeat itself. One that is named may be gone by now. */
export async function* manifestPlaces(store: StorageTarget, signal: AbortSignal): AsyncGenerator<ManifestPlace> {
  const seen = new Set<string>()
  for await (const { key } of store.list('', signal)) {
    const [, host, source, id] = MANIFEST.exec(key) ?? []
    if (!host || !source || !id || seen.has(key)) continue
    seen.add(key)
    yield { host, source, id, key }
  }
}

/** A manifest whose content says that it lies where it lies. Throws `manifest_forged`, `object_missing`, `format_unknown`. */
export async function readManifest(
  store: StorageTarget,
  place: ManifestPlace,
  verifyingKey: string | undefined,
  signal: AbortSignal,
): Promise<VerifiedManifest> {
  const bytes = await store.get(place.key, { signal })
  return verifyManifest(bytes, { verifyingKey }, place.key, place)
}

/**
 * Everything that a store holds, by its manifests alone. Needs no identity; where some are given, each backup's key files are tried with them. Throws
 * `not_found` where nothing says that it is a store of ours.
 */
export async function recoverList(
  store: StorageTarget,
  options: { verifyingKey: string | undefined; identities?: readonly Secret[]; signal: AbortSignal },
): Promise<RecoveryList> {
  const { verifyingKey, identities, signal } = options
  const backups: Array<Omit<RecoverableBackup, 'opens'>> = []
  const opened = new Set<string>()
  const problems: Array<{ key: string; code: string; message: string }> = []
  const histories = new Map<string, HistoryLink[]>()
  await checkFleet(store, verifyingKey, signal, problems)
  for await (const place of manifestPlaces(store, signal)) {
    let verified: VerifiedManifest
    try {
      verified = await readManifest(store, place, verifyingKey, signal)
    } catch (error) {
      if (!isHoldfastError(error) || error.retry) throw error
      // a listing that lags behind a removal names what is not there
      if (error.code !== 'object_missing') problems.push({ key: place.key, code: error.code, message: error.message })
      continue
    }
    const { facts, commit } = verified.manifest
    if (identities && (await opensKeys(store, facts, identities, signal))) opened.add(facts.id)
    const source = `${facts.host}/${facts.source}`
    histories.set(source, [...(histories.get(source) ?? []), linkOf(verified.manifest, verified.sha256)])
    const { host, source: name, id, engine, type, read_bytes, stored_bytes } = facts
    backups.push({
      host,
      source: name,
      id,
      engine,
      type,
      committedAt: commit.committed_at,
      readBytes: read_bytes,
      storedBytes: stored_bytes,
      leansOn: facts.leans_on.map((lean) => lean.id),
      origin: verified.origin,
      state: await keysState(store, place, signal),
    })
  }
  if (backups.length + problems.length === 0 && !(await store.head(FLEET_OBJECT, signal))) throw noStore()
  for (const links of histories.values()) for (const finding of verifyHistory(links)) problems.push(asProblem(links, finding))
  backups.sort((a, b) => (a.id < b.id ? -1 : 1))
  const opens = (backup: (typeof backups)[number]) => [backup.id, ...backup.leansOn].every((id) => opened.has(id))
  return { backups: backups.map((backup) => ({ ...backup, opens: identities ? opens(backup) : null })), problems }
}

const noStore = () =>
  new HoldfastError('not_found', 'there is no store of backups here: neither holdfast.json nor a manifest', {
    hint: "Name the folder, or the bucket and prefix, that backups went to; on a control plane's host it is the folder store in its home.",
  })

export async function keysState(store: StorageTarget, place: ManifestPlace, signal: AbortSignal): Promise<'present' | 'deleted'> {
  for await (const { key } of store.list(objectKey(place, 'keys/'), signal)) {
    // a listing may lag behind a removal
    if (await store.head(key, signal)) return 'present'
  }
  return 'deleted'
}

async function checkFleet(
  store: StorageTarget,
  verifyingKey: string | undefined,
  signal: AbortSignal,
  problems: Array<{ key: string; code: string; message: string }>,
): Promise<void> {
  if (!verifyingKey || !(await store.head(FLEET_OBJECT, signal))) return
  try {
    const fleet = readFleetObject(await store.get(FLEET_OBJECT, { signal }))
    if (fleet.verifying_key === verifyingKey) return
    const message = `${FLEET_OBJECT} names another verifying key than the one given`
    problems.push({ key: FLEET_OBJECT, code: 'manifest_forged', message })
  } catch (error) {
    // nothing depends on it: whoever can spoil it must not keep the backups from being listed
    if (!isHoldfastError(error) || error.retry) throw error
    problems.push({ key: FLEET_OBJECT, code: error.code, message: error.message })
  }
}

function asProblem(links: readonly HistoryLink[], finding: HistoryFinding) {
  const link = links.find(({ id }) => id === finding.id)
  const key = link ? `${link.host}/${link.source}/${link.id}/manifest.json` : finding.id
  return { key, code: finding.code, message: `${finding.id}: ${finding.message}` }
}
