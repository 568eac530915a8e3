import { describe, expect, onTestFinished, test } from 'vitest'
import { CodecThreads } from './codec-threads.ts'
import { FittingCompressor } from './fitting.mjs'
import { MIB } from './format.ts'
import { compress, decode, FAST, NARROW, type Settings, WIDE } from './packing.mjs'
import { sumOf } from './sums.mjs'
import { dumpLike, seededBytes } from './testing/content.ts'

const NAMES = new Map<Settings, string>([
  [FAST, 'fast'],
  [NARROW, 'narrow'],
  [WIDE, 'wide'],
])

/** Bytes that a block of its kind takes in each way. */
const KINDS = {
  rows: [1030, 1000, 1000],
  rowsOfAnotherTable: [1150, 1120, 1120],
  barelyRows: [1031, 1004, 1000],
  text: [1100, 1006, 1000],
  smaller: [800, 800, 800],
} as const
type Kind = keyof typeof KINDS
const kinds = Object.keys(KINDS) as Kind[]

/** Gives a compressor blocks of these kinds; the ways in which each was compressed, and what was kept of it. */
function ways(blocks: readonly Kind[], length = MIB): { used: string[]; kept: number[] } {
  let calls: string[] = []
  const fitting = new FittingCompressor((plain, settings) => {
    const name = NAMES.get(settings) ?? ''
    calls.push(name)
    return Buffer.alloc(KINDS[kinds[plain[0] as number] as Kind][[...NAMES.values()].indexOf(name)] as number)
  })
  const used: string[] = []
  const plain = Buffer.alloc(length)
  const kept = blocks.map((kind) => {
    calls = []
    plain[0] = kinds.indexOf(kind)
    const { length: took } = fitting.compress(plain)
    used.push(calls.join(' '))
    return took
  })
  return { used, kept }
}

/** Of a block that is tried: until one fits. */
const TRIED = { fast: 'wide fast', narrow: 'wide fast narrow', wide: 'wide fast narrow' }
const trialsOf = (used: readonly string[]): number[] => used.flatMap((one, n) => (one.startsWith('wide fast') ? [n] : []))
const times = <T>(count: number, what: T): T[] => Array.from({ length: count }, () => what)

describe('a block is compressed with settings that fit what lies before it', () => {
  test('the fastest that stores 3 % more at most, then half a per cent, then that which stores least; none slower is tried than fits', () => {
    expect(ways(times(3, 'rows'))).toEqual({ used: [TRIED.fast, 'fast', 'fast'], kept: [1030, 1030, 1030] })
    expect(ways(times(3, 'barelyRows'))).toEqual({ used: [TRIED.narrow, 'narrow', 'narrow'], kept: [1004, 1004, 1004] })
    expect(ways(times(3, 'text'))).toEqual({ used: [TRIED.wide, 'wide', 'wide'], kept: [1000, 1000, 1000] })
  })

  test.each(['rows', 'barelyRows', 'text'] as const)('a block is tried ever more rarely: %s', (kind) => {
    expect(trialsOf(ways(times(379, kind)).used)).toEqual([0, 6, 18, 42, 90, 186, 282, 378])
  })

  test('where other data begins, larger or smaller, the one way is used that is never bad, until the next trial', () => {
    expect(ways(['rows', 'rows', 'smaller', 'smaller', 'rows'])).toEqual({
      used: [TRIED.fast, 'fast', 'fast wide', 'wide', 'wide'],
      kept: [1030, 1030, 800, 800, 1000],
    })
    expect(ways(['smaller', 'text', 'text'])).toEqual({ used: [TRIED.fast, 'fast wide', 'wide'], kept: [800, 1000, 1000] })
    // what is somewhat larger may be the same kind of data
    expect(ways(['rows', 'rowsOfAnotherTable']).used).toEqual([TRIED.fast, 'fast'])
  })

  test('data of two kinds by turns costs ever less more than one way', () => {
    const { used } = ways(Array.from({ length: 400 }, (_, n) => (n % 2 ? 'smaller' : 'rows')))
    expect(trialsOf(used)).toEqual([0, 13, 62, 159, 256, 353])
    expect(used.filter((one) => one === 'fast wide').length).toBe(6)
    expect(used.filter((one) => one === 'fast').length).toBe(0)
  })

  test('data that could be faster again is found at the next trial', () => {
    expect(ways(['text', ...times(7, 'rows' as const)]).used).toEqual([TRIED.wide, ...times(5, 'wide'), TRIED.fast, 'fast'])
  })

  test('of blocks shorter than half a MiB nothing is tried', () => {
    expect(ways(times(2, 'rows'), MIB / 2 - 1).used).toEqual(['wide', 'wide'])
    expect(ways(times(2, 'rows'), MIB / 2).used).toEqual([TRIED.fast, 'fast'])
  })

  test('each way gives the content back, and the threads use the one that fits', async () => {
    const rows = dumpLike(1, MIB)
    const once = Buffer.from(seededBytes(1, 200 * 1024).toString('hex'))
    const likeWhatLiesFarBefore = Buffer.concat([once, once, once]).subarray(0, MIB)
    for (const plain of [rows, likeWhatLiesFarBefore]) {
      for (const settings of NAMES.keys()) expect(decode(compress(plain, settings), MIB).equals(plain)).toBe(true)
    }
    const threads = new CodecThreads(1)
    onTestFinished(() => threads.close())
    for (const [plain, settings] of [
      [rows, FAST],
      [rows, FAST],
      [likeWhatLiesFarBefore, WIDE],
      [likeWhatLiesFarBefore, WIDE],
    ] as const) {
      const { buffer, length } = await threads.pack({
        buffer: Buffer.from(plain),
        length: MIB,
        sum: sumOf(plain),
        effort: 'fitting',
      })
      expect(buffer.subarray(0, length).equals(compress(plain, settings))).toBe(true)
    }
  })
})
