import { existsSync } from 'node:fs'
import { rename } from 'node:fs/promises'
import path from 'node:path'
import { HoldfastError } from '../../shared/errors.ts'
import { stamp } from '../../shared/ids.ts'
import type { Secret } from '../../shared/secret.ts'
import { openTarget } from '../../shared/storage/registry.ts'
import { type Catalog, openCatalog } from '../catalog/open.ts'
import { restoreFromSelfBackup, settleRestored } from '../catalog/self-restore.ts'
import type { Fleet, FleetOptions } from '../fleet/authority.ts'
import { type FleetRecord, KEYS_OBJECT, readPublishedRecord } from '../fleet/record.ts'
import type { Targets } from '../storage/targets.ts'
import { adoptManifests, validateNewest } from '../usecases/rebuild-catalog.ts'
import type { ServerOptions } from './options.ts'

/** How a lost or damaged catalog is made again (`holdfast server --rebuild-catalog`). */
export interface Rebuild {
  /** A recovery identity: opens the fleet's sealed keys where the keyring is lost too. */
  readonly identity?: Secret
  /** `hfv1...` of the recovery file: the bucket's word on whose fleet it is is not taken. */
  readonly verifyingKey?: string
}

/** Where the embedded catalog's self-backup lies: beside it, so that both are on the disk that the operator chose. */
export const selfBackupFolder = (home: string): string => path.join(home, 'self-backup')

/** A new catalog, filled from the self-backup where there is one. The old embedded one is kept aside, whatever state it is in. */
export async function openForRebuild(options: ServerOptions): Promise<Catalog> {
  const { catalog: config, home, clock, log } = options
  if (config.kind === 'embedded' && existsSync(config.folder)) {
    const aside = `${config.folder}.before-${stamp(clock.now())}`
    await rename(config.folder, aside)
    log.warn({ aside }, 'the catalog is rebuilt; the one before is kept')
  }
  const catalog = await openCatalog(config)
  const restored = await restoreFromSelfBackup(catalog.db, selfBackupFolder(home))
  log.info({ restored }, restored ? 'policies, keys, agents and jobs came back from the self-backup' : 'there is no self-backup')
  return catalog
}

/**
 * The fleet's sealed keys out of the first target that has them, for when neither catalog nor data folder does. Anybody can seal keys of
 * his own to the recovery recipients, so those that do not belong to the verifying key of the recovery file are not believed.
 */
export async function publishedFleet(options: ServerOptions, rebuild: Rebuild): Promise<FleetOptions['rebuildFrom']> {
  let forged: string | undefined
  for (const [name, config] of Object.entries(options.targets)) {
    const target = await openTarget(config, { name, clock: options.clock })
    try {
      const record = await readPublishedRecord(target)
      if (record && isFleets(record, rebuild)) return { record, identity: rebuild.identity }
      if (record) {
        forged ??= name
        options.log.error({ target: name, object: KEYS_OBJECT }, 'keys that are not those of the recovery file are not believed')
      }
    } finally {
      await target.close()
    }
  }
  if (forged === undefined) return undefined
  throw new HoldfastError(
    'manifest_forged',
    `${KEYS_OBJECT} of target ${forged} does not hold the keys of the fleet that the recovery file names`,
    {
      hint: 'Somebody wrote another one there, or it is the file of another fleet. Give a target that still has the right one.',
    },
  )
}

function isFleets(record: FleetRecord, { verifyingKey }: Rebuild): boolean {
  const said = record.keys.find((key) => key.name === 'signing')?.publicPart
  return verifyingKey === undefined || said === verifyingKey
}

/** Takes in every manifest, then ends what the rebuilt catalog cannot know the end of. */
export async function finishRebuild(
  options: ServerOptions,
  of: { catalog: Catalog; fleet: Fleet; targets: Targets },
): Promise<void> {
  const { catalog, fleet, targets } = of
  const opened = await Promise.all(Object.keys(options.targets).map((name) => targets.get(name)))
  await adoptManifests({ catalog, log: options.log, verifyingKey: fleet.verifyingKeyText, targets: opened })
  await settleRestored(catalog.db, options.clock.now())
  await validateNewest(catalog.db, options.limits, options.clock.now())
}
