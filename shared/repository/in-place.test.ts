import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { waitFor } from '../../test/harness/wait.ts'
import type { EarlierFile, EarlierTree, TreeEntry } from '../artifacts.ts'
import type { Manifest } from '../manifest/manifest.ts'
import { MIB } from './format.ts'
import { openReader } from './reader.ts'
import type { ReaderTotals } from './repository.ts'
import { contentOf, entries, file, seededBytes } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'

const chunking = { kind: 'content-defined', averageBytes: 65_536 } as const

const LARGE = seededBytes(1, 40 * MIB)
const SMALL = 200
const smallOf = (n: number) => seededBytes(n + 100, 20_000 + n)
const HOLE = 5 * MIB
const SPARSE = seededBytes(3, 3 * MIB)

let fleet: TestFleet
let manifest: Manifest
beforeAll(async () => {
  fleet = await TestFleet.create()
  const sparse = [
    { offset: 0, bytes: SPARSE.subarray(0, MIB) },
    { offset: MIB + HOLE, bytes: SPARSE.subarray(MIB) },
  ]
  const list = [
    file({ path: 'large', bytes: LARGE }),
    file({ path: 'sparse', extents: sparse, size: SPARSE.length + HOLE }),
    ...Array.from({ length: SMALL }, (_, n) => file({ path: `small ${n}`, bytes: smallOf(n) })),
  ]
  manifest = await fleet.backup(0, (sink) => sink.tree({ name: 'tree', chunking }, entries(list)))
})

const expected = (path: string): Buffer => {
  if (path === 'large') return LARGE
  if (path !== 'sparse') return smallOf(Number(path.slice(6)))
  return Buffer.concat([SPARSE.subarray(0, MIB), Buffer.alloc(HOLE), SPARSE.subarray(MIB)])
}

/** Files in memory. `spoil` is told of each read, and may change what it gives. */
class There implements EarlierTree {
  open_ = 0
  readBytes = 0
  readonly #contents: (path: string) => readonly Buffer[]
  readonly #spoil: (into: Buffer, offset: number) => boolean

  constructor(contents: (path: string) => readonly Buffer[], spoil: (into: Buffer, offset: number) => boolean = () => true) {
    this.#contents = contents
    this.#spoil = spoil
  }

  open(entry: TreeEntry): EarlierFile[] {
    return this.#contents(entry.path.toString()).map((bytes) => {
      this.open_++
      return {
        size: bytes.length,
        read: async (into, offset) => {
          if (offset + into.length > bytes.length) throw new Error('more was asked for than there is')
          bytes.copy(into, 0, offset)
          this.readBytes += into.length
          return this.#spoil(into, offset)
        },
        close: () => this.open_--,
      }
    })
  }
}

interface Restored {
  readonly fetched: number
  readonly requests: number
  readonly wrong: string[]
  readonly totals: ReaderTotals
}

async function restored(earlier: EarlierTree | undefined, accept?: (entry: TreeEntry) => boolean): Promise<Restored> {
  const totals = { readBytes: 0, foundBytes: 0, chunks: 0 }
  const options = { ...(await fleet.readerOptions(manifest)), onProgress: (now: ReaderTotals) => Object.assign(totals, now) }
  const reader = await openReader(options)
  onTestFinished(() => reader.close())
  fleet.objects.gets = []
  const wrong: string[] = []
  for await (const entry of reader.openTree('tree', accept, earlier)) {
    const path = entry.path.toString()
    if (!(await contentOf(entry)).equals(expected(path))) wrong.push(path)
  }
  const { gets } = fleet.objects
  return { fetched: gets.reduce((sum, { length }) => sum + length, 0), requests: gets.length, wrong, totals }
}

const ALL = LARGE.length + SPARSE.length + Array.from({ length: SMALL }, (_, n) => smallOf(n).length).reduce((a, b) => a + b)

const changed = (bytes: Buffer, at: number): Buffer => {
  const copy = Buffer.from(bytes)
  copy[at] = (copy[at] as number) ^ 1
  return copy
}

describe('what lies already where a tree is restored is not fetched', () => {
  test('all of it: of each pack the end is fetched and no more, and every file comes back', async () => {
    const there = new There((path) => [expected(path)])
    const { fetched, wrong, totals } = await restored(there)
    expect(wrong).toEqual([])
    expect(totals.foundBytes).toBe(ALL)
    expect(fetched).toBeLessThan(ALL / 50)
    expect(there.open_).toBe(0)
  })

  test('nothing of it: all is fetched, and of what is another no more is read than a chunk of each block', async () => {
    const there = new There((path) => [seededBytes(99, expected(path).length)])
    const without = await restored(undefined)
    const { fetched, requests, wrong, totals } = await restored(there)
    expect(wrong).toEqual([])
    expect(totals.foundBytes).toBe(0)
    expect(fetched).toBeLessThan(without.fetched * 1.02)
    // neighbours come in one range, as they would without
    expect(requests).toBeLessThan(without.requests + 6)
    expect(there.readBytes).toBeLessThan(ALL / 3)
  })

  test.each<[string, (bytes: Buffer) => Buffer]>([
    ['changed in the middle', (bytes) => changed(bytes, 20 * MIB)],
    ['changed at the end of a block, where its first chunk is as it was', (bytes) => changed(bytes, bytes.length - 1)],
    ['truncated', (bytes) => bytes.subarray(0, bytes.length - MIB)],
    ['grown', (bytes) => Buffer.concat([bytes, seededBytes(5, MIB)])],
  ])('a large file that was %s: its changed blocks are fetched, each file comes back', async (_, change) => {
    const there = new There((path) => [path === 'large' ? change(LARGE) : expected(path)])
    const { fetched, wrong, totals } = await restored(there)
    expect(wrong).toEqual([])
    expect(fetched).toBeLessThan(4 * MIB)
    expect(totals.foundBytes).toBeGreaterThan(ALL - 4 * MIB)
  })

  test('one small file of a block is another: the block is fetched, once', async () => {
    const there = new There((path) => [path === 'small 60' ? changed(expected(path), 9) : expected(path)])
    const { fetched, wrong, totals } = await restored(there)
    expect(wrong).toEqual([])
    expect(fetched).toBeLessThan(2 * MIB)
    expect(totals.foundBytes).toBe(ALL - smallOf(60).length)
  })

  test('blocks that were found are not fetched because they lie between two that were not', async () => {
    const hit = (n: number) => changed(changed(LARGE, n * 3 * MIB), n * 3 * MIB + 2 * MIB)
    const { fetched, wrong } = await restored(new There((path) => [path === 'large' ? hit(4) : expected(path)]))
    expect(wrong).toEqual([])
    expect(fetched).toBeLessThan(2.7 * MIB)
  })

  test('of two that may hold it each is taken where it does', async () => {
    const half = LARGE.length / 2
    const [first, second] = [Buffer.from(LARGE.subarray(0, half)), Buffer.from(LARGE)]
    second.fill(0, 0, half - MIB)
    const { fetched, wrong } = await restored(new There((path) => (path === 'large' ? [first, second] : [expected(path)])))
    expect(wrong).toEqual([])
    expect(fetched).toBeLessThan(2 * MIB)
  })

  test('what is chosen alone is looked for', async () => {
    const there = new There((path) => [expected(path)])
    const { wrong, totals } = await restored(there, ({ path }) => path.toString() === 'small 9')
    expect(wrong).toEqual([])
    expect([totals.foundBytes, there.readBytes]).toEqual([smallOf(9).length, smallOf(9).length])
  })
})

describe('what lies there is believed by the hash of the very bytes that are given out', () => {
  test('a file that changes between two reads of it: what was read counts, not the file', async () => {
    let reads = 0
    const changing = (into: Buffer) => {
      // a chunk that was compared is followed by others than were there
      if (++reads % 3 === 0) into.fill(7)
      return true
    }
    const { wrong, totals } = await restored(new There((path) => [expected(path)], changing))
    expect(wrong).toEqual([])
    expect(totals.foundBytes).toBeLessThan(ALL * 0.8)
  })

  test('what cannot be read is fetched', async () => {
    const { wrong, totals } = await restored(
      new There(
        (path) => [expected(path)],
        (_, offset) => offset < 10 * MIB,
      ),
    )
    expect(wrong).toEqual([])
    expect(totals.foundBytes).toBeLessThan(ALL - 25 * MIB)
  })

  test('what goes wrong by a fault of ours ends the restore', async () => {
    const broken = new There(
      (path) => [expected(path)],
      () => {
        throw new TypeError('a fault')
      },
    )
    await expect(restored(broken)).rejects.toThrow('a fault')
    expect(broken.open_).toBe(0)
  })
})

test('what is read in place ahead of its turn is bounded, and nothing is before content is asked for', async () => {
  const reader = await fleet.reader(manifest)
  onTestFinished(() => reader.close())
  const there = new There((path) => [expected(path)])
  const tree = reader.openTree('tree', undefined, there)[Symbol.asyncIterator]()
  const { value: entry } = await tree.next()
  expect(there.readBytes).toBe(0)
  const reading = entry.read()[Symbol.asyncIterator]()
  await reading.next()
  await waitFor('what is read ahead', () => there.readBytes > 7 * MIB)
  for (let turn = 0; turn < 1000; turn++) await new Promise((resolve) => setImmediate(resolve))
  expect(there.readBytes).toBeLessThan(12 * MIB)
  await reading.return?.()
  await tree.return?.()
  expect(there.open_).toBe(0)
})
