import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { objectKey } from '../manifest/layout.ts'
import { BlockSource, chunksOf } from './block-source.ts'
import { CodecThreads } from './codec-threads.ts'
import type { Directory } from './directory.ts'
import { PACK_NAME } from './format.ts'
import { type OpenedParts, openParts } from './opened.ts'
import { PACK_TRAILER } from './pack.ts'
import { dumpLike, entries, file, pieces, seededBytes } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'
import {
  bytesOf,
  type Flip,
  type FlipSubject,
  flipSubject,
  missedByVerify,
  type Outcome,
  readFlipped,
  withFlips,
} from './testing/flips.ts'

/**
 * A part drawn from a fixed seed, or all of it (docs/testing.md): `small`, every bit of a small repository; `large`, so many random bits of a
 * large one, or `large:FROM..TO` of the rounds.
 */
const [campaign, range] = (process.env.HOLDFAST_TEST_FLIPS ?? '').split(':')
const SHARE_OF_SMALL = 6000
const ROUNDS_OF_SHARE = 25
const ROUNDS = 2900
const LEANED = 30
const HOURS = 3_600_000

const chunking = { kind: 'content-defined', averageBytes: 4096 } as const

/** The same numbers for the same seed. */
function drawn(seed: number, count: number): number[] {
  const bytes = seededBytes(seed, count * 6)
  return Array.from({ length: count }, (_, n) => bytes.readUIntLE(n * 6, 6))
}

describe('a small repository, with a backup that leans on another', () => {
  let subjects: FlipSubject[]
  beforeAll(async () => {
    const fleet = await TestFleet.create()
    const write = (day: number, dump: Buffer, base?: Parameters<TestFleet['backup']>[2]) =>
      fleet.backup(
        day,
        async (sink) => {
          await sink.stream({ name: 'dump', chunking }, pieces(dump))
          const sparse = file({ path: 'sparse', extents: [{ offset: 70_000, bytes: seededBytes(9, 300) }], size: 70_300 })
          await sink.tree({ name: 'tree', chunking }, entries([file({ path: 'a', bytes: seededBytes(day, 700) }), sparse]))
        },
        base,
      )
    const full = await write(0, dumpLike(1, 9000))
    const next = await write(1, Buffer.concat([dumpLike(1, 9000), seededBytes(2, 1500)]), { base: full })
    subjects = [await flipSubject(fleet, next), await flipSubject(fleet, full)]
  })

  /** Every bit of every object, by the newest backup that needs it. */
  function everyBit(): Array<Flip & { subject: FlipSubject }> {
    const seen = new Set<string>()
    return subjects.flatMap((subject) =>
      subject.keys.flatMap((key) => {
        if (seen.has(key)) return []
        seen.add(key)
        return Array.from({ length: bytesOf(subject, key).length * 8 }, (_, bit) => ({ subject, key, bit }))
      }),
    )
  }

  test(
    'each flipped bit is found by verify with the name of its object and of no other, and a reader refuses it or gives what was stored',
    async () => {
      for (const subject of subjects) expect(await missedByVerify(subject, [])).toEqual([])
      const all = everyBit()
      const flips = campaign === 'small' ? all : drawn(1, SHARE_OF_SMALL).map((n) => all[n % all.length] as (typeof all)[number])
      const missed: string[] = []
      const outcomes = new Map<string, number>()
      for (const { subject, ...flip } of flips) {
        await withFlips(subject, [flip], async () => {
          missed.push(...(await missedByVerify(subject, [flip])))
          const outcome = await readFlipped(subject, flip).catch((error: unknown) => void missed.push(String(error)))
          const kind = `${flip.key.split('/')[3]} ${outcome}`
          outcomes.set(kind, (outcomes.get(kind) ?? 0) + 1)
        })
      }
      expect(missed).toEqual([])
      for (const subject of subjects) expect(await missedByVerify(subject, [])).toEqual([])
      // whoever restores without the hash of a whole pack meets every bit but those of its first bytes and its padding
      expect(outcomes.get('packs refused')).toBeGreaterThan(0)
      tell(`${flips.length} of ${all.length} bits`, outcomes)
    },
    2 * HOURS,
  )
})

describe('a large repository, with a backup that leans on thirty others', () => {
  let subject: FlipSubject
  let parts: OpenedParts
  const decoder = new CodecThreads(2)
  afterAll(() => Promise.all([decoder.close(), parts.close()]))
  let packs: Array<{ origin: number; pack: number; key: string; directory: Directory }>
  beforeAll(async () => {
    const fleet = await TestFleet.create()
    // unchanged files are not read again, so that thirty backups cost little more than one
    const files = Array.from({ length: 24 }, (_, n) => megabytes(n))
    const tree = { name: 'tree', chunking: { kind: 'content-defined', averageBytes: 65_536 } } as const
    let last = await fleet.backup(0, (sink) => sink.tree(tree, entries(files)))
    for (let day = 1; day <= LEANED; day++) {
      files.push(megabytes(day + 24))
      last = await fleet.backup(day, (sink) => sink.tree(tree, entries(files)), { base: last })
    }
    subject = await flipSubject(fleet, last)
    parts = await openParts(subject.options)
    packs = []
    for (const [origin, { ref, packs: of }] of parts.origins.entries()) {
      for (const [pack, { name }] of of.entries())
        packs.push({ origin, pack, key: objectKey(ref, name), directory: (await parts.blocks.pack(origin, pack)).directory })
    }
  }, 120_000)

  /** A bit of each pack, and now and then of everything else too. */
  function flipsOf(round: number): Flip[] {
    const keys = round % 20 === 0 ? subject.keys : packs.map(({ key }) => key)
    const numbers = drawn(round + 1000, keys.length)
    return keys.map((key, n) => ({ key, bit: (numbers[n] as number) % (bytesOf(subject, key).length * 8) }))
  }

  /** What a restore opens for the chunks of the block that the bit is of: by ranges, without the pack's hash. */
  async function readBlock({ key, bit }: Flip): Promise<Outcome> {
    const at = bit >> 3
    const { origin, pack, directory } = packs.find((one) => one.key === key) as (typeof packs)[number]
    const blocks = Array.from({ length: directory.blocks }, (_, n) => n)
    const hit = blocks.find((n) => at >= directory.offset(n) && at < directory.end(n))
    const directoryAt = bytesOf(subject, key).length - PACK_TRAILER - directory.bytes.length - 16
    const isRead = hit !== undefined || at >= directoryAt
    const { fleet, options } = subject
    const { origins } = parts
    const source = new BlockSource({ objects: fleet.objects, origins, decoder, signal: options.signal, onRead: () => undefined })
    const block = hit ?? 0
    try {
      const open = await source.block(origin, pack, block)
      if (directory.chunksOf(block) > 0) chunksOf(open, block, 0, directory.chunksOf(block))
    } catch (error) {
      expect(error).toMatchObject({ code: 'object_damaged', context: { key } })
      expect(isRead).toBe(true)
      return 'refused'
    }
    expect(isRead, `${key} bit ${bit}`).toBe(false)
    return 'harmless'
  }

  test(
    'each flipped bit of any object is found by verify with its name and no other, and by who opens what the bit is of',
    async () => {
      expect(packs.length).toBeGreaterThan(LEANED + 1)
      expect(await missedByVerify(subject, [])).toEqual([])
      const [from, to] = roundsOf(campaign, range)
      const missed: string[] = []
      const outcomes = new Map<string, number>()
      let count = 0
      for (let round = from; round < to; round++) {
        const flips = flipsOf(round)
        count += flips.length
        await withFlips(subject, flips, async () => {
          missed.push(...(await missedByVerify(subject, flips)))
          for (const flip of flips) {
            if (!PACK_NAME.test(flip.key.split('/').slice(3).join('/'))) continue
            const outcome = await readBlock(flip).catch((error: unknown) => void missed.push(String(error)))
            outcomes.set(`block ${outcome}`, (outcomes.get(`block ${outcome}`) ?? 0) + 1)
          }
        })
      }
      expect(missed).toEqual([])
      expect(await missedByVerify(subject, [])).toEqual([])
      const size = subject.keys.reduce((sum, key) => sum + bytesOf(subject, key).length, 0)
      tell(`${count} bits, rounds ${from} to ${to - 1}, of ${subject.keys.length} objects with ${size} bytes`, outcomes)
    },
    2 * HOURS,
  )
})

/** A file of which half shrinks. */
const megabytes = (n: number) =>
  file({ path: `file ${n}`, bytes: Buffer.concat([seededBytes(n, 900_000), dumpLike(n, 600_000)]) })

function roundsOf(of: string | undefined, rounds: string | undefined): readonly [from: number, to: number] {
  if (of !== 'large') return [0, ROUNDS_OF_SHARE]
  const [from, to] = (rounds ?? `0..${ROUNDS}`).split('..').map(Number)
  return [from ?? 0, to ?? ROUNDS]
}

/** A campaign says what it did; the share of a test run is silent. */
function tell(what: string, outcomes: ReadonlyMap<string, number>): void {
  if (campaign) console.log(what, Object.fromEntries([...outcomes].sort()))
}
