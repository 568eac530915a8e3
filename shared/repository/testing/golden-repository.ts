import { randomBytes } from 'node:crypto'
import { HoldfastError } from '../../errors.ts'
import { writeFleetObject } from '../../manifest/fleet-object.ts'
import type { BackupPlaceRef } from '../../manifest/layout.ts'
import { FLEET_OBJECT, keysName, objectKey } from '../../manifest/layout.ts'
import type { Manifest } from '../../manifest/manifest.ts'
import { Secret } from '../../secret.ts'
import { rewrapDataKeys } from '../keys.ts'
import type { EarlierAttempt, ObjectSink, StoredPack, WriterOptions } from '../repository.ts'
import { openWriter } from '../writer.ts'
import { TestFleet } from './fleet.ts'
import { type GoldenContent, smallSource, wholeSource, writeGolden } from './golden-content.ts'
import { type ExpectedBackup, expectedArtifacts } from './golden-expectation.ts'

/** A repository with everything that the format allows, written by the writer of today, and what its readers have to give back. */

export interface Golden {
  readonly objects: ReadonlyMap<string, Buffer>
  /** Name of an identity file to its text. */
  readonly identities: Readonly<Record<string, string>>
  readonly expected: Readonly<Record<string, ExpectedBackup>>
}

const FLEET = 'fleet'
const RECOVERY = 'recovery'
const ROTATED = 'rotated'

export async function makeGolden(): Promise<Golden> {
  const [fleet, recovery, rotated] = [await TestFleet.create(), await TestFleet.create(), await TestFleet.create()]
  const expected: Record<string, ExpectedBackup> = {}
  let day = 0

  const add = async (
    content: GoldenContent,
    by: readonly string[],
    more: Partial<WriterOptions> & { base?: Manifest } = {},
    deleted = false,
  ): Promise<Manifest> => {
    const manifest = await fleet.backup(day++, (sink) => writeGolden(sink, content), more)
    const { facts } = manifest
    expected[`${facts.host}/${facts.source}/${facts.id}`] = {
      type: facts.type,
      leans_on: facts.leans_on.length,
      attempts: facts.keys.map(({ attempt }) => attempt),
      packs: facts.objects.filter(({ name }) => name.startsWith('packs/')).length,
      deleted,
      opened_by: by,
      artifacts: await expectedArtifacts(content),
    }
    return manifest
  }

  const full = await add(wholeSource(0), [FLEET])
  const second = await add(wholeSource(1), [FLEET], { base: full })
  await add(wholeSource(2), [FLEET], { base: full, type: 'differential' })
  await add(wholeSource(3), [FLEET], { base: second })

  const both = { recipients: [fleet.recipient, recovery.recipient] }
  const resumed = fleet.place(day)
  const first = await brokenAttempt(fleet, resumed, 1, [], smallSource(50, 120_000))
  const further = await brokenAttempt(fleet, resumed, 2, [first], smallSource(50, 240_000))
  await add(smallSource(50, 300_000), [FLEET, RECOVERY], { ...both, backup: resumed, attempt: 3, earlier: [first, further] })

  const removed = await add(smallSource(51), [], {}, true)
  fleet.objects.objects.delete(objectKey(removed.facts, keysName(1)))

  // its first key file is gone, that of the next is left: both are what a rotation may leave
  const turned = await add(smallSource(52), [ROTATED])
  await rotate(fleet, turned, rotated.recipient)
  fleet.objects.objects.delete(objectKey(turned.facts, keysName(1)))
  const last = await add(smallSource(53), [ROTATED], { base: turned })
  await rotate(fleet, last, rotated.recipient)

  fleet.objects.put(FLEET_OBJECT, writeFleetObject({ fleetId: fleet.fleetId, verifyingKey: fleet.verifyingKey }))
  const identity = (secret: Secret): string => `# verifying key: ${fleet.verifyingKey}\n${secret.reveal()}\n`
  return {
    objects: fleet.objects.objects,
    identities: {
      [FLEET]: identity(fleet.identity),
      [RECOVERY]: identity(recovery.identity),
      [ROTATED]: identity(rotated.identity),
      agent: `${fleet.agentIdentity.reveal()}\n`,
    },
    expected,
  }
}

/** An attempt that stores its packs and is cut off before its contents. */
async function brokenAttempt(
  fleet: TestFleet,
  backup: BackupPlaceRef,
  attempt: number,
  earlier: readonly EarlierAttempt[],
  content: GoldenContent,
): Promise<EarlierAttempt> {
  const dataKey = new Secret(randomBytes(32))
  const packs: StoredPack[] = []
  const inner = fleet.objects.sink(backup)
  const objects: ObjectSink = {
    async put(name, bytes, sha256, signal) {
      if (name.startsWith('contents/')) throw new HoldfastError('target_unreachable', 'the target is away')
      await inner.put(name, bytes, sha256, signal)
    },
  }
  const onPackStored = async (pack: StoredPack): Promise<void> => void packs.push({ ...pack, chunks: Buffer.from(pack.chunks) })
  const writer = await openWriter(fleet.options(backup, { attempt, dataKey, earlier, objects, onPackStored }))
  await writeGolden(writer, content)
  const end = await writer.finish({ counts: {}, facts: {} }).catch((error: unknown) => error)
  await writer.close()
  if (!(end instanceof HoldfastError) || packs.length === 0) throw new Error('the attempt was to be cut off after its packs')
  return { attempt, dataKey, packs }
}

async function rotate(fleet: TestFleet, { facts }: Manifest, recipient: string): Promise<void> {
  const file = fleet.objects.objects.get(objectKey(facts, keysName(1))) as Buffer
  fleet.objects.put(objectKey(facts, keysName(2)), await rewrapDataKeys(file, [fleet.identity], [recipient]))
}
