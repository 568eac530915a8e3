import { beforeAll, describe, expect, test } from 'vitest'
import { manifestSha256 } from '../manifest/canonical.ts'
import { backupFolder, objectKey } from '../manifest/layout.ts'
import type { Manifest } from '../manifest/manifest.ts'
import { validateObjects } from '../manifest/validate-objects.ts'
import { indexKeyOf, sha256 } from './format.ts'
import { openDataKeys } from './keys.ts'
import { PACK_TRAILER, PackOpener } from './pack.ts'
import { openReader } from './reader.ts'
import type { ObjectError, ReaderOptions } from './repository.ts'
import { collect, dumpLike, entries, file, pieces, seededBytes } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'
import { verifyStored } from './verify.ts'
import type { VerifyBudget } from './verify-budget.ts'
import { openWholePack } from './whole-pack.ts'

const chunking = { kind: 'content-defined', averageBytes: 4096 } as const

let fleet: TestFleet
let full: Manifest
let next: Manifest
let readable: ReaderOptions
const base = dumpLike(1, 150_000)
const changed = Buffer.concat([base, seededBytes(2, 30_000)])

beforeAll(async () => {
  fleet = await TestFleet.create()
  const files = (n: number) =>
    entries([file({ path: 'a', bytes: seededBytes(n, 5000) }), file({ path: 'b', bytes: seededBytes(9, 5000) })])
  full = await fleet.backup(0, async (sink) => {
    await sink.stream({ name: 'dump', chunking }, pieces(base))
    await sink.tree({ name: 'tree', chunking }, files(3))
  })
  next = await fleet.backup(
    1,
    async (sink) => {
      await sink.stream({ name: 'dump', chunking }, pieces(changed))
      await sink.tree({ name: 'tree', chunking }, files(4))
    },
    { base: full },
  )
  readable = await fleet.readerOptions(next)
})

async function verify(manifest: Manifest): Promise<ObjectError[]> {
  const errors: ObjectError[] = []
  await verifyStored({ ...readable, manifest }, (error) => errors.push(error))
  return errors
}

/** Every byte of header and trailer, and 200 places drawn from a fixed seed. */
function places(key: string, bytes: Buffer): number[] {
  const { length } = bytes
  const all = new Set<number>()
  for (let n = 0; n < headerLength(bytes); n++) all.add(n)
  for (let n = Math.max(0, length - PACK_TRAILER); n < length; n++) all.add(n)
  const draw = seededBytes(sha256(Buffer.from(key)).readUInt32LE(0), 800)
  for (let n = 0; n < 200; n++) all.add(draw.readUInt32LE(n * 4) % length)
  return [...all]
}

const AGE_FILE = 'age-encryption.org/v1\n'

/** That of an age file ends with its MAC: one stanza for each recipient before it. */
function headerLength(bytes: Buffer): number {
  if (!bytes.toString('latin1', 0, AGE_FILE.length).startsWith(AGE_FILE)) return Math.min(bytes.length, 40)
  const macAt = bytes.indexOf('\n--- ') + 1
  return bytes.indexOf('\n', macAt) + 1
}

async function withObject<T>(key: string, bytes: Buffer | null, work: () => Promise<T>): Promise<T> {
  const before = fleet.objects.objects.get(key)
  if (bytes) fleet.objects.objects.set(key, bytes)
  else fleet.objects.objects.delete(key)
  try {
    return await work()
  } finally {
    if (before) fleet.objects.objects.set(key, before)
  }
}

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes)
  ;(copy[at] as number) ^= 1 << (at % 8)
  return copy
}

const packOf = (manifest: Manifest): string => {
  const pack = manifest.facts.objects.find(({ name }) => name.startsWith('packs/'))
  return objectKey(manifest.facts, pack?.name ?? '')
}

describe('damage is found and named', () => {
  test('undamaged backups verify, the leaned-on packs included', async () => {
    const errors: ObjectError[] = []
    fleet.objects.gets = []
    const result = await (await fleet.reader(next)).verify({ onError: (error) => errors.push(error) })
    expect(errors).toEqual([])
    expect(fleet.objects.gets.map(({ key }) => key)).toContain(packOf(full))
    // its own objects, and of the base the pack and the keys
    expect(result.objects).toBe(next.facts.objects.length + 2)
  })

  test('a bit flipped in every header and trailer byte and at 200 seeded places of each object is found by verify with its name', async () => {
    const keys = [...next.facts.objects.map(({ name }) => objectKey(next.facts, name)), packOf(full)]
    for (const key of keys) {
      const bytes = fleet.objects.objects.get(key) as Buffer
      const isAge = /\/(keys|index)\/\d+$/.test(key)
      // recipients and MAC are beyond the first line
      if (isAge) expect(headerLength(bytes), key).toBeGreaterThan(100)
      for (const at of places(key, bytes)) {
        const errors = await withObject(key, flipped(bytes, at), () => verify(next))
        expect(errors, `${key} at ${at}`).toEqual([expect.objectContaining({ code: 'object_damaged', key })])
      }
    }
  }, 180_000)

  test('even where checksums were made to fit, no flipped bit of a pack opens', async () => {
    const key = packOf(next)
    const bytes = fleet.objects.objects.get(key) as Buffer
    const { facts } = next
    const opened = await openDataKeys(fleet.objects.objects.get(objectKey(facts, 'keys/1')) as Buffer, [fleet.identity])
    const dataKey = opened.keys[0]?.dataKey.reveal() as Buffer
    const backup = { host: facts.host, source: facts.source, id: facts.id }
    const open = (of: Buffer) =>
      openWholePack(
        new PackOpener(
          { backup, attempt: 1, object: key.slice(backupFolder(facts).length) },
          { dataKey, indexKey: indexKeyOf(dataKey, backup, 1) },
          of,
        ),
        of,
      )
    await open(bytes)
    for (const at of places(key, bytes)) {
      await expect(open(flipped(bytes, at)), `at ${at}`).rejects.toMatchObject({ code: 'object_damaged', context: { key } })
    }
    await expect(open(bytes.subarray(0, -1))).rejects.toMatchObject({ code: 'object_damaged' })
    await expect(open(Buffer.concat([bytes, Buffer.alloc(1)]))).rejects.toMatchObject({ code: 'object_damaged' })
  })

  test('a reader gives out no byte of a damaged chunk: what it gives is right, or it throws the object', async () => {
    const key = packOf(next)
    const bytes = fleet.objects.objects.get(key) as Buffer
    for (const at of places(key, bytes).filter((_, n) => n % 3 === 0)) {
      await withObject(key, flipped(bytes, at), async () => {
        const given: Buffer[] = []
        try {
          for await (const part of (await fleet.reader(next)).openStream('dump')) given.push(Buffer.from(part))
        } catch (error) {
          expect(error).toMatchObject({ code: 'object_damaged', context: { key } })
        }
        const all = Buffer.concat(given)
        expect(all.equals(changed.subarray(0, all.length))).toBe(true)
      })
    }
  }, 180_000)

  test('a missing, a shortened and a swapped object are named', async () => {
    const key = packOf(next)
    const bytes = fleet.objects.objects.get(key) as Buffer
    expect(await withObject(key, null, () => verify(next))).toContainEqual(
      expect.objectContaining({ code: 'object_missing', key }),
    )
    const short = bytes.subarray(0, bytes.length - 1)
    expect(await withObject(key, short, () => verify(next))).toContainEqual(
      expect.objectContaining({ code: 'object_damaged', key }),
    )
    const other = fleet.objects.objects.get(packOf(full)) as Buffer
    expect(await withObject(key, other, () => verify(next))).toContainEqual(
      expect.objectContaining({ code: 'object_damaged', key }),
    )
  })

  test('a verification with a budget reads whole the packs that it chose alone, and says which of them were good', async () => {
    // the other one holds the contents' pages, and is so small here that it is fetched with them
    const readWhole = () => {
      const size = fleet.objects.objects.get(packOf(full))?.length
      return fleet.objects.gets.some((get) => get.key === packOf(full) && get.length === size)
    }
    const look = (more: Partial<VerifyBudget>) => {
      fleet.objects.gets = []
      const budget = { olderThanSeconds: 0, share: 1, planOnly: false, verifiedSecondsAgo: () => undefined, ...more }
      const errors: ObjectError[] = []
      return verifyStored(readable, (error) => errors.push(error), budget).then((found) => ({ ...found, errors }))
    }
    const plan = await look({ planOnly: true })
    expect(plan).toMatchObject({ errors: [], packs: { needed: 2, chosen: 2 }, good: new Map() })
    expect(readWhole()).toBe(false)
    expect((await look({})).bytes).toBe(plan.bytes)
    const recent = (id: string) => (id === next.facts.id ? 5 : undefined)
    const due = await look({ olderThanSeconds: 10, verifiedSecondsAgo: recent })
    expect(readWhole()).toBe(true)
    expect(due.packs).toMatchObject({ chosen: 1, chosen_bytes: fleet.objects.objects.get(packOf(full))?.length })
    const number = full.facts.objects.findIndex(({ name }) => name.startsWith('packs/'))
    expect(due.good).toEqual(new Map([[full.facts.id, [number]]]))
    const key = packOf(full)
    const broken = flipped(fleet.objects.objects.get(key) as Buffer, 100)
    const damaged = await withObject(key, broken, () => look({ olderThanSeconds: 10, verifiedSecondsAgo: recent }))
    expect(damaged).toMatchObject({ errors: [{ code: 'object_damaged', key }], good: new Map() })
    expect(await withObject(key, broken, () => look({ olderThanSeconds: 10, verifiedSecondsAgo: () => 5 }))).toMatchObject({
      errors: [],
    })
  })

  test('validate finds missing and short objects without reading bodies', async () => {
    expect(await validateObjects(next, [full], fleet.objects.head)).toEqual([])
    fleet.objects.gets = []
    for (const key of [...next.facts.objects.map(({ name }) => objectKey(next.facts, name)), packOf(full)]) {
      const bytes = fleet.objects.objects.get(key) as Buffer
      const missing = await withObject(key, null, () => validateObjects(next, [full], fleet.objects.head))
      expect(missing).toEqual([expect.objectContaining({ code: 'object_missing', key })])
      const short = await withObject(key, bytes.subarray(1), () => validateObjects(next, [full], fleet.objects.head))
      expect(short).toEqual([expect.objectContaining({ code: 'object_damaged', key })])
    }
    expect(await validateObjects(next, [], fleet.objects.head)).toHaveLength(1)
    expect(fleet.objects.gets).toEqual([])
  })

  test('a leaned-on manifest that is not the one that was leaned on is refused', async () => {
    const forged = structuredClone(full)
    forged.commit.sequence = 17
    expect(manifestSha256(forged)).not.toBe(manifestSha256(full))
    fleet.manifests.set(full.facts.id, forged)
    await expect(fleet.reader(next)).rejects.toMatchObject({ code: 'object_damaged' })
    fleet.manifests.set(full.facts.id, full)
  })

  test('a leaned-on manifest that is missing is named, and nothing is read', async () => {
    const key = `${full.facts.host}/${full.facts.source}/${full.facts.id}/manifest.json`
    fleet.objects.gets = []
    await expect(openReader({ ...readable, leansOn: new Map() })).rejects.toMatchObject({
      code: 'object_missing',
      context: { key },
    })
    expect(fleet.objects.gets).toEqual([])
  })

  test('a pack of another backup, put into this one by who can rewrite the manifest too, does not open', async () => {
    // the same fleet, the same keys file even: the place is part of what is sealed
    const other = await fleet.backup(2, (sink) => sink.stream({ name: 'dump', chunking }, pieces(base)))
    const stolen = fleet.objects.objects.get(packOf(other)) as Buffer
    const forged = structuredClone(other)
    forged.facts.id = fleet.place(3).id
    for (const { name } of other.facts.objects) {
      fleet.objects.objects.set(objectKey(forged.facts, name), fleet.objects.objects.get(objectKey(other.facts, name)) as Buffer)
    }
    expect(stolen).toBeTruthy()
    await expect(fleet.reader(forged)).rejects.toMatchObject({ code: 'key_missing' })
  })

  test('samples open random blocks, own and leaned-on, and name what does not open', async () => {
    const errors: ObjectError[] = []
    const sampled = await (await fleet.reader(next)).sample(5, { onError: (error) => errors.push(error) })
    expect(sampled.blocks).toBe(10)
    expect(errors).toEqual([])
    const key = packOf(full)
    const bytes = Buffer.from(fleet.objects.objects.get(key) as Buffer)
    bytes.fill(0, 8, bytes.length - 4000)
    await withObject(key, bytes, async () => {
      const reader = await fleet.reader(next)
      await reader.sample(200, { onError: (error) => errors.push(error) })
    })
    expect(errors.map((error) => error.key)).toContain(key)
  })

  test('what stands in the clear holds no hash of plaintext and no name of a file', () => {
    const text = JSON.stringify(next)
    expect(text).not.toContain(sha256(seededBytes(4, 5000)).toString('hex'))
    expect(text).not.toContain(sha256(changed).toString('hex'))
    for (const [key, bytes] of fleet.objects.objects) {
      expect(bytes.includes('customer'), key).toBe(false)
    }
  })

  test('lengths of packs, contents and index are Padmé lengths, so that they say little', async () => {
    const { padme } = await import('./format.ts')
    for (const { name, size } of next.facts.objects) if (/^packs|^contents/.test(name)) expect(padme(size)).toBe(size)
    expect((await collect((await fleet.reader(next)).openStream('dump'))).equals(changed)).toBe(true)
  })
})
