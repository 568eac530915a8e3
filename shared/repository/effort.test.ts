import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { BackupSink, Chunking } from '../artifacts.ts'
import type { Manifest } from '../manifest/manifest.ts'
import { type BlockCodec, CodecThreads } from './codec-threads.ts'
import { KIB, MIB } from './format.ts'
import { compress, DEEP, type Effort, FAST, NARROW, type PlainBlock, WIDE } from './packing.mjs'
import { sumOf } from './sums.mjs'
import { collect, contentOf, dumpLike, entries, file, pieces, seededBytes } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'

const pages = { kind: 'fixed', bytes: 8192 } as const
const cut = { kind: 'content-defined', averageBytes: 65_536 } as const
/** Two blocks for the threads, and one that is packed without them. */
const content = dumpLike(1, 2 * MIB + 96 * KIB)

const WAYS = Object.entries({ fast: FAST, narrow: NARROW, wide: WIDE, deep: DEEP })

/** The settings that make just these bytes of `plain`. */
function wayOf(plain: Buffer, packed: Buffer): string {
  const made = WAYS.filter(([, settings]) => compress(plain, settings).equals(packed))
  return made.map(([name]) => name).join(' or ') || (packed.equals(plain) ? 'stored' : 'another')
}

/** One thread, and how each block of `content` has come out of it. */
class WatchedCodec implements BlockCodec {
  readonly #threads = new CodecThreads(1)
  /** In the order in which the blocks came: short ones are done at once. */
  readonly ways: string[] = []
  async pack(block: PlainBlock) {
    const plain = Buffer.from(block.buffer.subarray(0, block.length))
    const n = content.includes(plain) ? this.ways.push('') - 1 : null
    const packed = await this.#threads.pack(block)
    if (n !== null) this.ways[n] = wayOf(plain, packed.buffer.subarray(0, packed.length))
    return packed
  }
  close() {
    return this.#threads.close()
  }
}

const ARTIFACTS = {
  stream: (chunking: Chunking) => (sink: BackupSink) => sink.stream({ name: 'a', chunking }, pieces(content)),
  tree: (chunking: Chunking) => (sink: BackupSink) =>
    sink.tree({ name: 'a', chunking }, entries([file({ path: 'x', bytes: content })])),
}
const kinds = Object.keys(ARTIFACTS) as Array<keyof typeof ARTIFACTS>

describe('what a backup compresses', () => {
  let fleet: TestFleet
  let full: Manifest
  let day = 0
  beforeAll(async () => {
    fleet = await TestFleet.create()
    full = await fleet.backup(day++, (sink) => sink.stream({ name: 'a', chunking: pages }, pieces(seededBytes(1, 50_000))))
  })

  async function waysOf(write: (sink: BackupSink) => Promise<unknown>, more: object = {}): Promise<string[]> {
    const codec = new WatchedCodec()
    const manifest = await fleet.backup(day++, write, { codec, ...more })
    const reader = await fleet.reader(manifest)
    onTestFinished(() => reader.close())
    for await (const { kind, name } of reader.artifacts()) {
      if (kind === 'stream') expect((await collect(reader.openStream(name))).equals(content)).toBe(true)
      else for await (const entry of reader.openTree(name)) expect((await contentOf(entry)).equals(content)).toBe(true)
    }
    return codec.ways
  }

  test.each(kinds)('of a %s in pages it compresses deep what its base does not have, in short blocks too', async (kind) => {
    const write = ARTIFACTS[kind](pages)
    expect(await waysOf(write, { base: full })).toEqual(['deep', 'deep', 'deep'])
    expect(await waysOf(write, { base: full, type: 'differential' })).toEqual(['deep', 'deep', 'deep'])
  })

  test.each(kinds)('of a %s in pages it compresses nothing deep where it is a full', async (kind) => {
    expect(await waysOf(ARTIFACTS[kind](pages))).toEqual(['fast', 'fast', 'wide'])
  })

  test.each(kinds)('of a %s that is cut by its content it compresses nothing deep', async (kind) => {
    const write = ARTIFACTS[kind](cut)
    const ways = await waysOf(write, { base: full })
    expect(ways.length).toBeGreaterThan(2)
    expect(ways.slice(0, 2)).toEqual(['fast', 'fast'])
    expect(ways).not.toContain('deep')
    expect(await waysOf(write)).toEqual(ways)
  })

  test('where pages are asked for in place of what an engine has, they are pages', async () => {
    expect(await waysOf(ARTIFACTS.tree(cut), { base: full, chunking: pages })).toEqual(['deep', 'deep', 'deep'])
  })

  test('pages that are compressed already are stored as they are', async () => {
    const write = (sink: BackupSink) => sink.stream({ name: 'a', chunking: pages, compressible: false }, pieces(content))
    expect(await waysOf(write, { base: full })).toEqual(['stored', 'stored', 'stored'])
  })
})

test('a thread compresses other blocks as if those that are compressed deep had not come', async () => {
  const once = Buffer.from(seededBytes(1, 200 * KIB).toString('hex'))
  const rows = dumpLike(1, MIB)
  const others = Buffer.concat([once, once, once]).subarray(0, MIB)
  const threads = new CodecThreads(1)
  onTestFinished(() => threads.close())
  const wayOfNext = async (plain: Buffer, effort: Effort) => {
    const packed = await threads.pack({ buffer: Buffer.from(plain), length: MIB, sum: sumOf(plain), effort })
    return wayOf(plain, packed.buffer.subarray(0, packed.length))
  }
  expect(await wayOfNext(others, 'deep')).toBe('deep')
  expect(await wayOfNext(rows, 'fitting')).toBe('fast')
  // of which one would end the time of FAST, and six would bring the next trial
  for (let n = 0; n < 6; n++) expect(await wayOfNext(others, 'deep')).toBe('deep')
  expect(await wayOfNext(rows, 'fitting')).toBe('fast')
})
