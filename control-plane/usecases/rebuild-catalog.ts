import { asHoldfastError } from '../../shared/errors.ts'
import type { Logger } from '../../shared/log.ts'
import { type HistoryLink, linkOf, verifyHistory } from '../../shared/manifest/history.ts'
import { verifyManifest } from '../../shared/manifest/verify.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { adoptBackup, adoptLeans, type FoundManifest, invalidateUnfound, latestManifests } from '../catalog/adopt.ts'
import type { Catalog } from '../catalog/catalog.ts'

export interface RebuildDeps {
  readonly catalog: Catalog
  readonly log: Logger
  readonly verifyingKey: string
  readonly targets: readonly StorageTarget[]
}

const MANIFEST = /^[a-z0-9][a-z0-9._-]{0,62}\/[a-z0-9][a-z0-9._-]{0,62}\/[0-9TZ]+-[0-9a-z]{10}\/manifest\.json$/

/**
 * Reads every manifest on every target and takes in those that the fleet signed. What is forged, swapped or damaged is left out and said,
 * object by object; one that cannot be read now is an error, since a catalog that lacks it would let its bases be removed.
 */
export async function adoptManifests(deps: RebuildDeps): Promise<{ adopted: number; refused: number }> {
  const found: FoundManifest[] = []
  let refused = 0
  for (const target of deps.targets) {
    for await (const { key } of target.list('')) {
      if (!MANIFEST.test(key)) continue
      const manifest = await readManifest(deps, target, key)
      if (manifest) found.push(manifest)
      else refused += 1
    }
  }
  for (const manifest of found) await adoptBackup(deps.catalog.db, manifest)
  for (const manifest of found) {
    const missing = await adoptLeans(deps.catalog.db, manifest)
    if (missing.length > 0)
      deps.log.error({ backup: manifest.manifest.facts.id, missing }, 'a backup leans on others that are not there')
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
    if (key === `${host}/${source}/${id}/manifest.json`) return { manifest, bytes, sha256, target: target.name }
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
