import { beforeAll, describe, expect, test } from 'vitest'
import type { TreeOutput } from '../artifacts.ts'
import { canonicalBytes } from '../manifest/canonical.ts'
import { verifyManifest } from '../manifest/verify.ts'
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
})
