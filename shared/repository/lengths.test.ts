import { beforeEach, describe, expect, test } from 'vitest'
import type { BackupSink } from '../artifacts.ts'
import type { Manifest } from '../manifest/manifest.ts'
import { Secret } from '../secret.ts'
import { createChunker, gearTable } from './chunker.ts'
import { isBlurOf, MIB, padmeStep, TAG_BYTES } from './format.ts'
import { openParts } from './opened.ts'
import { PACK_HEADER } from './pack.ts'
import { packChecked } from './packing.mjs'
import type { Draw } from './repository.ts'
import { sumOf } from './sums.mjs'
import { LETTERS, noiseWithIslands, solveForLetters, twoLetters } from './testing/chunking-attack.ts'
import { drawsOf, entries, file, pieces, seededBytes } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'

/**
 * What lengths tell who reads the target, or runs the store and sees what is asked for. Each attack is tried where chunks lie open, to show that it works,
 * and against this format.
 */

const chunking = { kind: 'content-defined', averageBytes: 65_536 } as const
type GearKey = TestFleet['gearKey']
/** Zero wherever a chunk of 64 KiB on average ends. */
const BITS = 15
const KEYS = [1, 2, 3].map((seed) => new Secret(Buffer.from(seededBytes(seed, 32))))
/** Padding that only rounds up. */
const NO_DRAWS = () => 0

let fleet: TestFleet
beforeEach(async () => {
  fleet = await TestFleet.create()
})

const differenceOf = (key: GearKey): number => {
  const gear = gearTable(key.reveal())
  return Math.abs(((gear[LETTERS[0]] as number) - (gear[LETTERS[1]] as number)) | 0)
}

/** A repository with an object for each chunk. */
function lengthsOfChunks(plain: Buffer, key: GearKey): number[] {
  const lengths: number[] = []
  const chunker = createChunker(chunking, gearTable(key.reveal()), (chunk) => {
    const buffer = Buffer.from(chunk)
    lengths.push(packChecked({ buffer, length: buffer.length, sum: sumOf(buffer), effort: 'fitting' }).length)
  })
  chunker.push(plain)
  chunker.end()
  return lengths
}

const sums = (lengths: readonly number[]): number[] => {
  let sum = 0
  return lengths.map((length) => (sum += length))
}

const packSizes = ({ facts }: Manifest): number[] =>
  facts.objects.filter(({ name }) => name.startsWith('packs/')).map(({ size }) => size)

describe('data of his own tells an adversary the gear table', () => {
  test('where each chunk is an object of its own, compressed or not', () => {
    const plain = noiseWithIslands(1, 40 * MIB)
    for (const key of KEYS) expect(solveForLetters(plain, sums(lengthsOfChunks(plain, key)), BITS)).toBe(differenceOf(key))
  })

  /**
   * Where the ranges end that a restore asks for, as places in the data: `asked` as the store sees them, `blocks` as if no more than the blocks had been
   * asked for. Who knows the format takes off what stands between them.
   */
  async function endsOfReads(plain: Buffer, key: GearKey): Promise<{ asked: number[]; blocks: number[] }> {
    fleet.gearKey = key
    const meta = { name: 'letters', chunking, compressible: false }
    const manifest = await fleet.backup(0, (sink) => sink.stream(meta, pieces(plain)))
    const reader = await fleet.reader(manifest)
    fleet.objects.gets = []
    for await (const _ of reader.openStream('letters'));
    await reader.close()
    const parts = await openParts(await fleet.readerOptions(manifest))
    const ends: { asked: number[]; blocks: number[] } = { asked: [], blocks: [] }
    let before = 0
    for (const number of packSizes(manifest).keys()) {
      const { key, directory } = await parts.blocks.pack(0, number)
      for (const { offset, length } of fleet.objects.gets.filter((get) => get.key === key && get.length > MIB)) {
        let inside = 0
        while (inside < directory.blocks && directory.end(inside) <= offset + length) inside++
        const sealing = PACK_HEADER + inside * TAG_BYTES
        ends.asked.push(before + offset + length - sealing)
        ends.blocks.push(before + directory.end(inside - 1) - sealing)
      }
      for (let n = 0; n < directory.blocks; n++) if (directory.kind(n) === 'data') before += directory.plainLength(n)
    }
    await parts.close()
    // the data ends where no chunk had to
    const inside = (end: number) => end < plain.length
    return { asked: ends.asked.filter(inside), blocks: ends.blocks.filter(inside) }
  }

  test('where a restore asks for blocks alone, and not where it asks for ranges on a grid', async () => {
    const plain = twoLetters(1, 30 * MIB)
    for (const key of KEYS) {
      const { asked, blocks } = await endsOfReads(plain, key)
      expect(asked.length).toBeGreaterThan(10)
      expect(solveForLetters(plain, blocks, BITS)).toBe(differenceOf(key))
      expect(solveForLetters(plain, asked, BITS)).toBeNull()
    }
  })
})

describe('a stored length', () => {
  const CHUNK = 40_000
  /** Of the pack of an incremental of which this much is new, in a file beside another one. */
  async function packOfIncremental(base: Manifest, changed: Buffer, more: number, draw?: Draw): Promise<number> {
    const write = (sink: BackupSink) =>
      sink
        .stream({ name: 'changed', chunking }, pieces(changed))
        .then(() => sink.stream({ name: 'more', chunking }, pieces(seededBytes(9, more))))
    const manifest = await fleet.backup(1, write, { base, ...(draw ? { draw } : {}) })
    return packSizes(manifest).reduce((sum, size) => sum + size, 0)
  }

  /**
   * How long the part of an incremental is that he does not know: he adds bytes of his own until the pack is a step longer. What stands around the data he knows of
   * a backup of his own.
   */
  async function lengthFound(secret: number, draw?: Draw): Promise<number> {
    const base = await fleet.backup(0, (sink) => sink.stream({ name: 'changed', chunking }, pieces(seededBytes(5, CHUNK))))
    const stored = (more: number) => packOfIncremental(base, seededBytes(6, secret), more, draw)
    const length = await stored(1)
    let [low, high] = [1, padmeStep(length)]
    while (high - low > 1) {
      const more = Math.floor((low + high) / 2)
      if ((await stored(more)) > length) high = more
      else low = more
    }
    return length - low
  }

  test('is found exactly by who adds to it where padding only rounds up, and not where it rounds by chance', async () => {
    const own = await lengthFound(CHUNK, NO_DRAWS)
    const found = async (secret: number, draw?: Draw) => Math.abs((await lengthFound(secret, draw)) - own - (secret - CHUNK))
    for (const secret of [CHUNK + 777, CHUNK + 5555]) expect(await found(secret, NO_DRAWS)).toBeLessThanOrEqual(32)
    const off = [
      await found(CHUNK + 777, drawsOf(1)),
      await found(CHUNK + 5555, drawsOf(2)),
      await found(CHUNK + 777, drawsOf(3)),
    ]
    expect(Math.min(...off)).toBeGreaterThan(64)
  })

  test('and what the manifest says in the clear are rounded by chance', async () => {
    // in the middle between two steps: up to one or the other as often
    const bytes = seededBytes(1, 36.5 * 8192)
    const fingerprint = { counts: { rows: 61.5 * 2048 }, facts: {} }
    const seen = { packs: new Set<number>(), read: new Set<number>(), counted: new Set<number>() }
    const rounded = () => Object.values(seen).every(({ size }) => size > 1)
    for (let n = 0; n < 200 && !rounded(); n++) {
      const manifest = await fleet.backup(0, (sink) => sink.stream({ name: 's', chunking }, pieces(bytes)), { fingerprint })
      for (const size of packSizes(manifest)) seen.packs.add(size)
      seen.read.add(manifest.facts.read_bytes)
      seen.counted.add(manifest.facts.total_count)
    }
    expect([...seen.read].sort()).toEqual([37 * 8192, 38 * 8192])
    expect([...seen.counted].sort()).toEqual([62 * 2048, 63 * 2048])
    expect([...seen.packs].sort()).toEqual([37 * 8192, 38 * 8192])
    for (const value of seen.read) expect(isBlurOf(bytes.length, value)).toBe(true)
    expect([bytes.length, 39 * 8192].map((value) => isBlurOf(bytes.length, value))).toEqual([false, false])
  })
})

describe('which of many known files is in a backup', () => {
  /** Of about the same size, as versions of one document are. */
  const FILES = Array.from({ length: 16 }, (_, n) => seededBytes(n, 250_000 + 397 * n))

  interface Seen {
    readonly packs: number
    readonly read: number
  }

  const backUp = async (bytes: Buffer, draw: Draw): Promise<Seen> => {
    const write = (sink: BackupSink) => sink.tree({ name: 'files', chunking }, entries([file({ path: 'f', bytes })]))
    const manifest = await fleet.backup(0, write, { draw })
    return { packs: packSizes(manifest).reduce((sum, size) => sum + size, 0), read: manifest.facts.read_bytes }
  }

  /** The share that is told right by the one that comes nearest. */
  const told = (seen: readonly Seen[], known: readonly Seen[]): number =>
    seen.filter((one, n) => nearest(one, known) === n).length / seen.length

  const nearest = (one: Seen, known: readonly Seen[]): number => {
    const off = known.map(({ packs, read }) => Math.abs(packs - one.packs) + Math.abs(read - one.read))
    return off.indexOf(Math.min(...off))
  }

  test('is told by exact lengths, always; by those of a backup hardly more often than by guessing', async () => {
    const chunks = KEYS.slice(0, 2).map((key) =>
      FILES.map((bytes) => ({ packs: lengthsOfChunks(bytes, key).reduce((sum, length) => sum + length, 0), read: bytes.length })),
    ) as [Seen[], Seen[]]
    expect(told(...chunks)).toBe(1)
    const mine: Seen[] = []
    const theirs: Seen[] = []
    for (const bytes of FILES) mine.push(await backUp(bytes, NO_DRAWS))
    fleet.gearKey = KEYS[1] as GearKey
    for (const [n, bytes] of FILES.entries()) theirs.push(await backUp(bytes, drawsOf(n)))
    // two of sixteen
    expect(told(theirs, mine)).toBeLessThan(0.2)
  })
})
