import { randomBytes } from 'node:crypto'
import { readdir, readlink } from 'node:fs/promises'
import { beforeEach, describe, expect, test } from 'vitest'
import { HoldfastError } from '../errors.ts'
import { objectKey } from '../manifest/layout.ts'
import { Secret } from '../secret.ts'
import { MIB } from './format.ts'
import { OwnChunks } from './own-chunks.ts'
import type { ObjectSink, StoredPack } from './repository.ts'
import { collect, pieces, seededBytes } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'
import { openWriter } from './writer.ts'

const chunking = { kind: 'content-defined', averageBytes: 65_536 } as const
const bytes = seededBytes(1, 60_000_000)

let fleet: TestFleet
beforeEach(async () => {
  fleet = await TestFleet.create()
})

/** An attempt whose target goes away after `packs` packs. */
async function brokenAttempt(packs: number) {
  const backup = fleet.place(0)
  const dataKey = new Secret(randomBytes(32))
  const stored: StoredPack[] = []
  const inner = fleet.objects.sink(backup)
  const objects: ObjectSink = {
    async put(name, body, sha256, signal) {
      if (name.startsWith('packs/') && stored.length >= packs) throw new HoldfastError('target_unreachable', 'the target is away')
      await inner.put(name, body, sha256, signal)
    },
  }
  const onPackStored = async (pack: StoredPack) => void stored.push({ ...pack, chunks: Buffer.from(pack.chunks) })
  const writer = await openWriter(fleet.options(backup, { dataKey, objects, onPackStored }))
  await expect(
    (async () => {
      await writer.stream({ name: 'dump', chunking }, pieces(bytes))
      await writer.finish({ counts: {}, facts: {} })
    })(),
  ).rejects.toMatchObject({ code: 'target_unreachable' })
  await writer.close()
  await writer.close()
  return { backup, earlier: { attempt: 1, dataKey, packs: stored } }
}

/** Paths of what this process has open, where the kernel tells them. */
const openFiles = async (): Promise<string[]> =>
  Promise.all(
    (await readdir('/proc/self/fd').catch(() => [])).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => 'closed since')),
  )

describe('attempts', () => {
  test('a failed backup, tried again, uploads nothing twice', async () => {
    const { backup, earlier } = await brokenAttempt(2)
    expect(earlier.packs).toHaveLength(2)
    const before = fleet.objects.putBytes
    const manifest = await fleet.backup(0, (sink) => sink.stream({ name: 'dump', chunking }, pieces(bytes)), {
      backup,
      attempt: 2,
      earlier: [earlier],
    })
    const reused = earlier.packs.reduce((sum, pack) => sum + pack.size, 0)
    expect(reused).toBeGreaterThan(30_000_000)
    expect(fleet.objects.putBytes - before).toBeLessThan(bytes.length * 1.04 - reused)
    expect(manifest.facts.keys.map(({ attempt }) => attempt)).toEqual([1, 2])
    expect(manifest.facts.objects.map(({ name }) => name)).toEqual(expect.arrayContaining(earlier.packs.map(({ name }) => name)))
    const errors: unknown[] = []
    const reader = await fleet.reader(manifest)
    await reader.verify({ onError: (error) => errors.push(error) })
    expect(errors).toEqual([])
    expect((await collect(reader.openStream('dump'))).equals(bytes)).toBe(true)
  })

  test('chunks of an earlier attempt for which memory has no room are found by the first one of their block', async () => {
    const { backup, earlier } = await brokenAttempt(2)
    const before = fleet.objects.putBytes
    const reused = earlier.packs.reduce((sum, pack) => sum + pack.size, 0)
    // read again it is not the same: something was put in at its beginning and in its middle, and so much of it has gone
    const later = Buffer.concat([seededBytes(7, 1000), bytes.subarray(0, 12_000_000), bytes.subarray(12_100_000)])
    const more = { backup, attempt: 2, earlier: [earlier], ownChunks: new OwnChunks(24) }
    const manifest = await fleet.backup(0, (sink) => sink.stream({ name: 'dump', chunking }, pieces(later)), more)
    expect(reused).toBeGreaterThan(30_000_000)
    // of each of the two places the rest of a block at most, and what follows up to the next
    expect(fleet.objects.putBytes - before).toBeLessThan(bytes.length * 1.04 - reused + 4 * MIB)
    expect((await collect((await fleet.reader(manifest)).openStream('dump'))).equals(later)).toBe(true)
    const errors: unknown[] = []
    await (await fleet.reader(manifest)).verify({ onError: (error) => errors.push(error) })
    expect(errors).toEqual([])
    // what it knows goes on: nothing of it is stored again by a backup that leans on this one
    const sent = fleet.objects.putBytes
    await fleet.backup(1, (sink) => sink.stream({ name: 'dump', chunking }, pieces(later)), { base: manifest })
    expect(fleet.objects.putBytes - sent).toBeLessThan(MIB)
  })

  test('a journal that says nonsense of an earlier pack is refused, and no file stays open', async () => {
    const pack = { name: 'packs/1-0000000000000000', size: 1, sha256: Buffer.alloc(32) }
    for (const chunks of [Buffer.alloc(3), Buffer.from([1, 0, 0, 0, 9, 9, 9]), Buffer.alloc(50, 255)]) {
      const earlier = [{ attempt: 1, dataKey: new Secret(randomBytes(32)), packs: [{ ...pack, chunks }] }]
      const options = fleet.options(fleet.place(0), { attempt: 2, earlier })
      const damaged = { code: 'object_damaged', message: expect.stringContaining('what the journal says of it') }
      await expect(openWriter(options)).rejects.toMatchObject(damaged)
      expect((await openFiles()).filter((file) => file.startsWith(options.scratch))).toEqual([])
    }
  })

  test('the key of an attempt is stored before its first pack', async () => {
    const order: string[] = []
    const backup = fleet.place(0)
    const objects: ObjectSink = { put: async (name) => void order.push(name.split('-')[0] as string) }
    const writer = await openWriter(fleet.options(backup, { objects }))
    await writer.stream({ name: 'dump', chunking }, pieces(bytes.subarray(0, 20_000_000)))
    await writer.finish({ counts: {}, facts: {} })
    expect(order).toEqual(['keys/1', 'packs/1', 'packs/1', 'contents/1', 'index/1'])
  })

  test('a zombie attempt collides with nobody: names and keys of attempts differ', async () => {
    const backup = fleet.place(0)
    const small = bytes.subarray(0, 500_000)
    const write = async (attempt: number) => {
      const writer = await openWriter(fleet.options(backup, { attempt }))
      await writer.stream({ name: 'dump', chunking }, pieces(small))
      return { facts: await writer.finish({ counts: {}, facts: {} }) }
    }
    const sealed = new Set<string>()
    const [first, second] = [await write(1), await write(3)].map(({ facts }) => facts)
    for (const facts of [first, second]) for (const { sha256 } of facts?.objects ?? []) sealed.add(sha256)
    expect(sealed.size).toBe(8)
    const names = [...(first?.objects ?? []), ...(second?.objects ?? [])].map(({ name }) => name)

    expect(new Set(names).size).toBe(8)
  })

  test('a dump made again is other bytes: no nonce meets its key twice', async () => {
    const small = bytes.subarray(0, 300_000)
    const packs: Buffer[] = []
    for (const day of [0, 1]) {
      const dataKey = new Secret(Buffer.alloc(32, 1))
      const { facts } = await fleet.backup(day, (sink) => sink.stream({ name: 'dump', chunking }, pieces(small)), { dataKey })
      const name = facts.objects.find((object) => object.name.startsWith('packs/'))?.name as string
      packs.push(fleet.objects.objects.get(objectKey(facts, name)) as Buffer)
    }
    const [a, b] = packs as [Buffer, Buffer]
    expect(a.subarray(8, 100_000).equals(b.subarray(8, 100_000))).toBe(false)
  })

  test('a backup smaller than a pack is one pack', async () => {
    const { facts } = await fleet.backup(0, (sink) =>
      sink.stream({ name: 'dump', chunking }, pieces(bytes.subarray(0, 3_000_000))),
    )
    expect(facts.objects.map(({ name }) => name.replace(/-.*/, ''))).toEqual(['keys/1', 'packs/1', 'contents/1', 'index/1'])
    const large = await fleet.backup(1, (sink) => sink.stream({ name: 'dump', chunking }, pieces(bytes)))
    for (const { name, size } of large.facts.objects)
      if (name.startsWith('packs/')) expect(size).toBeLessThanOrEqual(17 * 2 ** 20)
  })

  test('contents that a reader would refuse are not written', async () => {
    const wide = { counts: {}, facts: { what: 'x'.repeat(31_000_000) } }
    const many = { counts: {}, facts: { what: '['.repeat(1_000_001) } }
    for (const fingerprint of [wide, many]) {
      const write = fleet.backup(0, (sink) => sink.stream({ name: 'dump', chunking }, pieces(bytes.subarray(0, 1000))), {
        fingerprint,
      })
      await expect(write).rejects.toMatchObject({ code: 'too_large' })
    }
    expect([...fleet.objects.objects.keys()].filter((key) => /contents|manifest/.test(key))).toEqual([])
  })

  test('aborting ends the writer with the reason, and nothing is committed', async () => {
    const stop = new AbortController()
    const writer = await openWriter(fleet.options(fleet.place(0), { signal: stop.signal }))
    async function* endless() {
      for (let n = 0; ; n++) {
        if (n === 3) stop.abort(new HoldfastError('job_cancelled', 'enough'))
        yield seededBytes(n, 100_000)
      }
    }
    await expect(writer.stream({ name: 'dump', chunking }, endless())).rejects.toMatchObject({ code: 'job_cancelled' })
    await expect(writer.finish({ counts: {}, facts: {} })).rejects.toMatchObject({ code: 'job_cancelled' })
    await writer.close()
    expect(fleet.objects.objects.size).toBe(0)
  })
})
