import { describe, expect, onTestFinished, test } from 'vitest'
import { CodecThreads } from './codec-threads.ts'
import { FittingCompressor } from './fitting.mjs'
import { MIB } from './format.ts'
import { compress, decode, type Settings, WIDE } from './packing.mjs'
import { sumOf } from './sums.mjs'
import { dumpLike, seededBytes } from './testing/content.ts'

/** Each is like what lies just before it. */
const rows = (n: number): Buffer => dumpLike(n, MIB)
/** Each is like what lies 400 KiB before it, beyond what NARROW looks at. */
const repeatedFarAway = (n: number): Buffer => {
  const once = Buffer.from(seededBytes(n, 200 * 1024).toString('hex'))
  return Buffer.concat([once, once, once]).subarray(0, MIB)
}

/** A compressor, and which settings it has used for each block. */
function watched(): { fitting: FittingCompressor; used: () => Array<'wide' | 'narrow' | 'both'> } {
  const calls = new Map<Buffer, Settings[]>()
  const fitting = new FittingCompressor((plain, settings) => {
    calls.set(plain, [...(calls.get(plain) ?? []), settings])
    return compress(plain, settings)
  })
  return {
    fitting,
    used: () => [...calls.values()].map((of) => (of.length === 2 ? 'both' : of[0] === WIDE ? 'wide' : 'narrow')),
  }
}

/** Compresses each, and gives what it took; the content has to come back. */
const sizes = (fitting: FittingCompressor, blocks: readonly Buffer[]): number[] =>
  blocks.map((plain) => {
    const packed = fitting.compress(plain)
    expect(decode(packed, plain.length).equals(plain)).toBe(true)
    return packed.length
  })

const times = (count: number, what: (n: number) => Buffer): Buffer[] => Array.from({ length: count }, (_, n) => what(n))
const wide = (blocks: readonly Buffer[]): number[] => blocks.map((plain) => compress(plain, WIDE).length)
const sum = (numbers: readonly number[]): number => numbers.reduce((all, one) => all + one, 0)

describe('a block is compressed with settings that fit', () => {
  test('rows: what is near is searched, for half a per cent at most', () => {
    const { fitting, used } = watched()
    const blocks = times(5, rows)
    expect(sum(sizes(fitting, blocks))).toBeLessThanOrEqual(sum(wide(blocks)) * 1.005)
    expect(used()).toEqual(['both', 'narrow', 'narrow', 'narrow', 'narrow'])
  })

  test('data that is like what lies far before it: the whole block is searched', () => {
    const { fitting, used } = watched()
    const blocks = times(5, repeatedFarAway)
    expect(sizes(fitting, blocks)).toEqual(wide(blocks))
    expect(used()).toEqual(['both', 'wide', 'wide', 'wide', 'wide'])
  })

  test('where other data begins, larger or smaller, it is tried anew at once, and the smaller is kept', () => {
    const { fitting, used } = watched()
    const blocks = [...times(3, rows), ...times(3, repeatedFarAway)]
    expect(sizes(fitting, blocks).slice(3)).toEqual(wide(blocks).slice(3))
    expect(used()).toEqual(['both', 'narrow', 'narrow', 'both', 'wide', 'wide'])

    const next = watched()
    sizes(next.fitting, [rows(1), rows(2), seededBytes(1, MIB), seededBytes(2, MIB), rows(3), rows(4)])
    expect(next.used()).toEqual(['both', 'narrow', 'both', 'narrow', 'both', 'narrow'])
  })

  test.each([
    ['rows', rows, 'narrow'],
    ['data of the other kind', repeatedFarAway, 'wide'],
  ] as const)('one block in 48 is tried: %s', (_what, make, expected) => {
    const { fitting, used } = watched()
    sizes(
      fitting,
      times(97, (n) => Buffer.from(make(n % 2))),
    )
    const tried = used().flatMap((one, n) => (one === 'both' ? [n] : []))
    expect(tried).toEqual([0, 48, 96])
    expect(new Set(used())).toEqual(new Set(['both', expected]))
  })

  test('rows that come after other data are found at the next trial', () => {
    const { fitting, used } = watched()
    sizes(fitting, [...times(2, repeatedFarAway), ...times(48, (n) => Buffer.from(rows(n % 2)))])
    expect(used().slice(0, 3)).toEqual(['both', 'wide', 'wide'])
    expect(used().slice(-2)).toEqual(['both', 'narrow'])
  })

  test('short blocks are not tried, and tell nothing about those that follow', () => {
    const { fitting, used } = watched()
    sizes(fitting, [rows(1).subarray(0, MIB / 2 - 1), rows(2), rows(3).subarray(0, MIB / 2 - 1), rows(4)])
    expect(used()).toEqual(['wide', 'both', 'wide', 'narrow'])
  })

  test('the threads do it', async () => {
    const threads = new CodecThreads(1)
    onTestFinished(() => threads.close())
    const windows: number[] = []
    for (const plain of [rows(1), rows(2), repeatedFarAway(1)]) {
      const packed = await threads.pack({
        buffer: Buffer.from(plain),
        length: plain.length,
        sum: sumOf(plain),
        compressible: true,
      })
      windows.push(windowOf(packed.buffer))
    }
    expect(windows).toEqual([256 * 1024, 256 * 1024, MIB])
  })
})

/** What a decoder has to remember of a frame (RFC 8878, section 3.1.1.1): the whole content, or as much as it says. */
function windowOf(frame: Buffer): number {
  const isWhole = (frame.readUInt8(4) & 0x20) !== 0
  return isWhole ? frame.readUInt32LE(5) : 2 ** (10 + (frame.readUInt8(5) >> 3))
}
