import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import type { TreeOutput } from '../artifacts.ts'
import { canonicalBytes } from '../manifest/canonical.ts'
import { verifyManifest } from '../manifest/verify.ts'
import { Secret } from '../secret.ts'
import { collect, contentOf, dumpLike, entries, file, pieces, seededBytes } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'

const cdc = { kind: 'content-defined', averageBytes: 65_536 } as const

let fleet: TestFleet
beforeAll(async () => {
  fleet = await TestFleet.create()
})

describe('a backup is written and read', () => {
  test('streams come back as they were, whatever their size', async () => {
    const sizes = [0, 1, 100, 65_536, 1_048_576, 5_000_001]
    const data = sizes.map((size, n) => (n % 2 ? seededBytes(n, size) : dumpLike(n, size)))
    const manifest = await fleet.backup(0, (sink) =>
      Promise.all(data.map((bytes, n) => sink.stream({ name: `s${n}`, chunking: cdc }, pieces(bytes)))),
    )
    const { origin } = verifyManifest(canonicalBytes(manifest), { verifyingKey: fleet.verifyingKey })
    expect(origin).toBe('verified')
    const reader = await fleet.reader(manifest)
    for (const [n, bytes] of data.entries()) expect((await collect(reader.openStream(`s${n}`))).equals(bytes)).toBe(true)
    const errors: unknown[] = []
    const verified = await reader.verify({ onError: (error) => errors.push(error) })
    expect(errors).toEqual([])
    expect(verified.objects).toBe(manifest.facts.objects.length)
  })

  test('a restore of one table of a hundred reads at most twice its share of what is stored', async () => {
    const data = Array.from({ length: 100 }, (_, n) => seededBytes(1000 + n, 400_000))
    const before = fleet.objects.putBytes
    const manifest = await fleet.backup(0, async (sink) => {
      for (const [n, bytes] of data.entries()) await sink.stream({ name: `s${n}`, chunking: cdc }, pieces(bytes))
    })
    const stored = fleet.objects.putBytes - before
    fleet.objects.gets = []
    const reader = await fleet.reader(manifest)
    expect((await collect(reader.openStream('s42'))).equals(data[42] as Buffer)).toBe(true)
    const read = fleet.objects.gets.reduce((sum, { length }) => sum + length, 0)
    expect(read / stored).toBeLessThan(0.02)
  })

  test('trees come back as they were: sparse files, links, names that are no UTF-8', async () => {
    const name = Buffer.from([0x61, 0xff, 0xfe])
    const sparse = [
      { offset: 100_000, bytes: seededBytes(5, 70_000) },
      { offset: 1_000_000, bytes: seededBytes(6, 10) },
    ]
    const list = [
      { path: Buffer.alloc(0), type: 'directory', mode: 0o755, uid: 0, gid: 0, mtimeNs: -5n, size: 0 } as const,
      file({ path: name, bytes: seededBytes(1, 3000) }),
      file({ path: 'sparse', extents: sparse, size: 2_000_000 }),
      file({ path: 'empty' }),
      { ...file({ path: 'again', size: 3000 }), content: undefined, hardLinkTo: name },
      {
        path: Buffer.from('link'),
        type: 'symlink',
        mode: 0o777,
        uid: 1,
        gid: 2,
        mtimeNs: 7n,
        size: 0,
        linkTarget: Buffer.from('../x'),
      } as const,
      file({
        path: 'attrs',
        bytes: seededBytes(9, 200),
        more: { xattrs: [{ name: Buffer.from('user.a'), value: Buffer.from([0, 1]) }] },
      }),
    ]
    const manifest = await fleet.backup(1, (sink) => sink.tree({ name: 'tree', chunking: cdc }, entries(list)))
    const reader = await fleet.reader(manifest)
    const found: TreeOutput[] = []
    const extents: number[] = []
    for await (const entry of reader.openTree('tree')) {
      found.push(entry)
      if (entry.path.toString() === 'sparse' && entry.read) for await (const { offset } of entry.read()) extents.push(offset)
    }
    expect(found.map(({ path }) => path)).toEqual(list.map(({ path }) => path))
    expect(extents.every((offset) => offset >= 100_000)).toBe(true)
    expect((await contentOf(found[1] as TreeOutput)).equals(seededBytes(1, 3000))).toBe(true)
    expect((await contentOf(found[2] as TreeOutput)).subarray(100_000, 170_000).equals(seededBytes(5, 70_000))).toBe(true)
    expect(found[4]?.hardLinkTo).toEqual(name)
    expect(found[5]?.linkTarget?.toString()).toBe('../x')
    expect(found[6]?.xattrs?.[0]?.value).toEqual(Buffer.from([0, 1]))
    expect(found[0]?.mtimeNs).toBe(-5n)
  })

  test('an incremental of unchanged data stores under 1 % of the full, and restores from one manifest', async () => {
    const bytes = seededBytes(3, 30_000_000)
    const full = await fleet.backup(2, (sink) => sink.stream({ name: 'dump', chunking: cdc }, pieces(bytes)))
    const stored = full.facts.stored_bytes
    const again = await fleet.backup(3, (sink) => sink.stream({ name: 'dump', chunking: cdc }, pieces(bytes, 10_007)), {
      base: full,
    })
    expect(again.facts.stored_bytes).toBeLessThan(stored / 100)
    expect(again.facts.leans_on.map(({ id }) => id)).toEqual([full.facts.id])
    const third = await fleet.backup(4, (sink) => sink.stream({ name: 'dump', chunking: cdc }, pieces(bytes)), { base: again })
    expect(third.facts.leans_on.map(({ id }) => id)).toEqual([full.facts.id])
    expect((await collect((await fleet.reader(third)).openStream('dump'))).equals(bytes)).toBe(true)
  })

  test('a backup of nothing, and artifacts of nothing, are backups', async () => {
    const nothing = await fleet.backup(5, async () => undefined)
    const empty = await fleet.backup(6, async (sink) => {
      await sink.stream({ name: '', chunking: cdc }, pieces(Buffer.alloc(0)))
      await sink.tree({ name: 'tree', chunking: cdc }, entries([]))
    })
    for (const [manifest, count] of [
      [nothing, 0],
      [empty, 2],
    ] as const) {
      const reader = await fleet.reader(manifest)
      const errors: unknown[] = []
      await reader.verify({ onError: (error) => errors.push(error) })
      expect(errors).toEqual([])
      let found = 0
      for await (const { bytes } of reader.artifacts()) found += 1 + bytes
      expect(found).toBe(count)
    }
    const next = await fleet.backup(7, (sink) => sink.stream({ name: 's', chunking: cdc }, pieces(seededBytes(1, 10))), {
      base: nothing,
    })
    expect((await collect((await fleet.reader(next)).openStream('s'))).equals(seededBytes(1, 10))).toBe(true)
  })

  test('thousands of artifacts and entries stand in pages, and are found by name', async () => {
    const names = Array.from({ length: 3000 }, (_, n) => `table "${n}" \u{1F4A9} ${'x'.repeat(n % 700)}`)
    const many = Array.from({ length: 12_000 }, (_, n) => file({ path: `d/${n}`, bytes: seededBytes(n % 50, 20 + (n % 40)) }))
    const manifest = await fleet.backup(8, async (sink) => {
      for (const name of names)
        await sink.stream({ name, part: name, chunking: cdc, facts: { columns: name } }, pieces(Buffer.from(name)))
      await sink.tree({ name: 'tree', chunking: cdc }, entries(many))
    })
    const reader = await fleet.reader(manifest)
    for (const name of [names[0], names[1234], names[2999]] as string[]) {
      expect((await collect(reader.openStream(name))).toString()).toBe(name)
    }
    let n = 0
    for await (const entry of reader.openTree('tree', ({ path }) => path.toString().endsWith('7'))) {
      const index = Number(entry.path.toString().slice(2))
      if (index % 997 === 0) expect((await contentOf(entry)).equals(seededBytes(index % 50, 20 + (index % 40)))).toBe(true)
      n++
    }
    expect(n).toBe(1200)
    let last = Buffer.alloc(0)
    for await (const { name } of reader.artifacts()) {
      const bytes = Buffer.from(name)
      expect(last.compare(bytes)).toBeLessThan(0)
      last = bytes
    }
    await expect(collect(reader.openStream('absent'))).rejects.toMatchObject({ code: 'not_found' })
    await expect(collect(reader.openStream('tree'))).rejects.toMatchObject({ code: 'not_found' })
  })

  test('several artifacts at a time, of any bytes in any pieces, come back as they were', async () => {
    const stream = fc.record({
      bytes: fc.uint8Array({ maxLength: 20_000 }),
      piece: fc.integer({ min: 1, max: 5000 }),
      fixed: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(stream, { maxLength: 5 }), async (streams) => {
        const manifest = await fleet.backup(9, (sink) =>
          Promise.all(
            streams.map(({ bytes, piece, fixed }, n) => {
              const chunking = fixed
                ? ({ kind: 'fixed', bytes: 512 } as const)
                : ({ kind: 'content-defined', averageBytes: 4096 } as const)
              return sink.stream({ name: String(n), chunking }, pieces(Buffer.from(bytes), piece))
            }),
          ),
        )
        const reader = await fleet.reader(manifest)
        for (const [n, { bytes }] of streams.entries())
          expect((await collect(reader.openStream(String(n)))).equals(bytes)).toBe(true)
      }),
      { numRuns: 15 },
    )
  })

  test('a name used twice is refused', async () => {
    const twice = fleet.backup(10, async (sink) => {
      await sink.stream({ name: 'a', chunking: cdc }, pieces(Buffer.alloc(1)))
      await sink.tree({ name: 'a', chunking: cdc }, entries([]))
    })
    await expect(twice).rejects.toMatchObject({ code: 'already_exists' })
  })

  test('an incremental with another gear key than its base, or without a base, is refused', async () => {
    const full = await fleet.backup(11, async () => undefined)
    const gearKey = new Secret(randomBytes(32))
    await expect(fleet.backup(12, async () => undefined, { base: full, gearKey })).rejects.toMatchObject({
      code: 'base_unusable',
    })
    await expect(fleet.backup(12, async () => undefined, { type: 'incremental' })).rejects.toMatchObject({
      code: 'base_unusable',
    })
    await expect(fleet.backup(12, async () => undefined, { recipients: [] })).rejects.toMatchObject({ code: 'key_missing' })
  })
})
