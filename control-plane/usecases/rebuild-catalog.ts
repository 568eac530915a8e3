import { asHoldfastError } from '../../shared/errors.ts'
import type { Logger } from '../../shared/log.ts'
import { type HistoryLink, linkOf, verifyHistory } from '../../shared/manifest/history.ts'
import { objectKey } from '../../shared/manifest/layout.ts'
import type { Manifest } from '../../shared/manifest/manifest.ts'
import { verifyManifest } from '../../shared/manifest/verify.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import {
  adoptBackup,
  adoptLeans,
  type FoundManifest,
  invalidateUnfound,
  latestManifests,
  unvalidatedNewest,
} from '../catalog/adopt.ts'
import type { Catalog, Db } from '../catalog/catalog.ts'
import { createJob } from '../catalog/jobs.ts'

export interface RebuildDeps {
  readonly catalog: Catalog
  readonly log: Logger
  readonly verifyingKey: string
  readonly targets: readonly StorageTarget[]
}

const MANIFEST = /^[a-z0-9][a-z0-9._-]{0,62}\/[a-z0-9][a-z0-9._-]{0,62}\/[0-9TZ]+-[0-9a-z]{10}\/manifest\.json$/

/**
 * Reads every manifest on every target and takes in those that the fleet signed. What is forged, swapped or damaged is left out and said,
 * object by object; one that cannot be read now is an error, since a catalog that lacks it would let its bases be removed. A manifest says
 * that its backup was committed, and no more: one without keys reads as deleted, one of a backup that is known to have failed stays
 * unbelieved, and the newest of each source is validated (`validateNewest`).
 */
export async function adoptManifests(deps: RebuildDeps): Promise<{ adopted: number; refused: number }> {
  const read: FoundManifest[] = []
  let refused = 0
  for (const target of deps.targets) {
    const seen = new Set<string>()
    for await (const { key } of target.list('')) {
      // a listing may repeat itself
      if (!MANIFEST.test(key) || seen.has(key)) continue
      seen.add(key)
      const manifest = await readManifest(deps, target, key)
      if (manifest) read.push(manifest)
      else refused += 1
    }
  }
  // a key on one target opens the copies on the others
  const opens = new Set(read.filter((one) => one.keys).map((one) => one.manifest.facts.id))
  const found = read.map((one) => ({ ...one, keys: opens.has(one.manifest.facts.id) }))
  for (const manifest of found) await adoptBackup(deps.catalog.db, manifest)
  const keyless = new Set(found.filter((one) => !one.keys).map((one) => one.manifest.facts.id))
  for (const id of keyless) deps.log.warn({ backup: id }, 'a backup has no keys: it reads as deleted')
  for (const manifest of found) {
    const missing = await adoptLeans(deps.catalog.db, manifest, keyless)
    if (missing.length > 0)
      deps.log.error(
        { backup: manifest.manifest.facts.id, missing },
        'a backup leans on others that are not there, or have no keys',
      )
  }
  tellHistories(deps.log, found, await latestManifests(deps.catalog.db))
  await tellMissing(deps)
  deps.log.info({ adopted: found.length, refused }, 'manifests were read')
  return { adopted: found.length, refused }
}

async function readManifest(deps: RebuildDeps, target: StorageTarget, key: string): Promise<FoundManifest | null> {
  try {
    const bytes = await target.get(key)
    const { manifest, sha256 } = verifyManifest(bytes, { verifyingKey: deps.verifyingKey }, key)
    const { host, source, id } = manifest.facts
    if (key === `${host}/${source}/${id}/manifest.json`)
      return { manifest, bytes, sha256, target: target.name, keys: await hasKeys(target, manifest) }
    deps.log.error(
      { object: key, code: 'manifest_forged', says: `${host}/${source}/${id}` },
      'a manifest lies under another name than its own: it is not believed',
    )
  } catch (error) {
    const { code, message, retry } = asHoldfastError(error)
    if (retry || code === 'internal') throw error
    deps.log.error({ object: key, code }, `a manifest is not believed: ${message}`)
  }
  return null
}

/** The file that the facts name, or one that a rotation added. */
async function hasKeys(target: StorageTarget, { facts }: Manifest): Promise<boolean> {
  for (const name of new Set(facts.keys.map((key) => key.name))) if (await target.head(objectKey(facts, name))) return true
  for await (const { key } of target.list(objectKey(facts, 'keys/'))) if (await target.head(key)) return true
  return false
}

/**
 * Queues the validation of the newest backup of each source that nobody has validated: a job that failed after its commit, just before the
 * catalog was lost, may have left it. Until then nothing is said of it but that it was committed.
 */
export async function validateNewest(
  db: Db,
  limits: { readonly maxAttempts: number; readonly jobDeadlineSeconds: number },
  now: Date,
): Promise<void> {
  for (const { id, agentId, sourceId } of await unvalidatedNewest(db)) {
    await createJob(
      db,
      {
        spec: { kind: 'validate', backup_id: id },
        agentId,
        sourceId,
        requestedBy: 'control-plane',
        maxAttempts: limits.maxAttempts,
        deadlineSeconds: limits.jobDeadlineSeconds,
      },
      now,
    )
  }
}

/** Backups that the self-backup calls good and of which no target has the manifest: somebody took it away. */
async function tellMissing({ catalog, log }: RebuildDeps): Promise<void> {
  for (const { id, host, source, target } of await invalidateUnfound(catalog.db)) {
    const key = `${host}/${source}/${id}/manifest.json`
    log.error(
      { target, object: key, code: 'object_missing' },
      'the manifest of a good backup is missing: it is not valid any more',
    )
  }
}

/** Rolled-back, swapped and back-dated backups show in the chain of each source. */
function tellHistories(log: Logger, found: readonly FoundManifest[], latest: Awaited<ReturnType<typeof latestManifests>>): void {
  const bySource = Map.groupBy(found, ({ manifest }) => `${manifest.facts.host}/${manifest.facts.source}`)
  for (const [source, manifests] of bySource) {
    const links: HistoryLink[] = manifests.map(({ manifest, sha256 }) => linkOf(manifest, sha256))
    for (const finding of verifyHistory(links, { latest: latest.get(source) })) {
      const gap = finding.code === 'sequence_gap'
      log[gap ? 'info' : 'error']({ source, backup: finding.id, code: finding.code }, finding.message)
    }
  }
}
