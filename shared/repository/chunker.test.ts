import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Chunking } from '../artifacts.ts'
import { createChunker, gearTable } from './chunker.ts'
import { sha256 } from './format.ts'
import { seededBytes } from './testing/content.ts'

const gear = gearTable(Buffer.alloc(32, 7))
const small: Chunking = { kind: 'content-defined', averageBytes: 4096 }

function cuts(bytes: Buffer, chunking: Chunking, splits: readonly number[] = [], table = gear): number[] {
  const lengths: number[] = []
  const chunker = createChunker(chunking, table, (chunk) => {
    if (lengths.push(chunk.length) > bytes.length / 512 + 1) throw new Error('more chunks than there can be')
  })
  let at = 0
  for (const split of [...splits].sort((a, b) => a - b)) {
    chunker.push(bytes.subarray(at, split))
    at = split
  }
  chunker.push(bytes.subarray(at))
  chunker.end()
  return lengths
}

/** FORMAT.md section 6, word for word. */
function written(bytes: Buffer, average: number, table: Int32Array): number[] {
  const lengths: number[] = []
  for (let start = 0; start < bytes.length; ) {
    let h = 0
    let n = 0
    for (let ended = false; !ended && n < 4 * average && start + n < bytes.length; n++) {
      if (n < average / 4) continue
      h = ((h << 1) + (table[bytes[start + n] as number] as number)) >>> 0
      const bits = Math.log2(average) + (n < average ? 1 : -1)
      ended = h >>> (32 - bits) === 0
    }
    lengths.push(n)
    start += n
  }
  return lengths
}

/** A table with which the byte 0 ends a chunk as soon as nothing else is in the hash, and the byte 1 never does. */
const steered = Int32Array.from(gear).fill(0, 0, 1).fill(0x40000000, 1, 2)
const stretch = fc
  .record({
    kind: fc.constantFrom('ends', 'never', 'noise'),
    length: fc.oneof(fc.nat({ max: 70 }), fc.nat({ max: 20_000 })),
    seed: fc.nat(),
  })
  .map(({ kind, length, seed }) => (kind === 'noise' ? seededBytes(seed, length) : Buffer.alloc(length, kind === 'ends' ? 0 : 1)))

describe('chunks', () => {
  test('golden cuts: no version may cut otherwise', () => {
    expect(cuts(seededBytes(6, 60_000), small)).toMatchInlineSnapshot(`
      [
        9265,
        5967,
        10922,
        3198,
        8356,
        4353,
        4261,
        11646,
        2004,
        28,
      ]
    `)
    expect(cuts(seededBytes(7, 1_000_000), { kind: 'content-defined', averageBytes: 65_536 })).toMatchInlineSnapshot(`
      [
        84387,
        50099,
        49884,
        75538,
        23633,
        121362,
        53963,
        82915,
        67384,
        59646,
        95587,
        161721,
        68800,
        5081,
      ]
    `)
    expect(cuts(seededBytes(8, 20_000), { kind: 'fixed', bytes: 8192 })).toMatchInlineSnapshot(`
      [
        8192,
        8192,
        3616,
      ]
    `)
  })

  test('a chunk ends at the first byte at which it may, and at the last at which it must', () => {
    // from byte number a / 4 on
    expect(cuts(Buffer.alloc(3000), small, [], steered)).toEqual([1025, 1025, 950])
    expect(cuts(Buffer.alloc(40_000, 1), small, [1, 5000, 16_383, 16_384, 16_385], steered)).toEqual([16_384, 16_384, 7232])
    // 2^20 is what the hash comes to at the byte 2: eleven bits of zeros, which are enough from byte number a on; the byte 3 undoes it
    const table = Int32Array.from(steered)
      .fill(0x80000000 + 2 ** 20, 2, 3)
      .fill(0xc0000000 - 2 ** 21, 3, 4)
    const with2 = (at: number) =>
      cuts(
        Buffer.alloc(20_000, 1)
          .fill(2, at, at + 1)
          .fill(3, at + 1, at + 2),
        small,
        [],
        table,
      )
    expect(with2(4095)).toEqual([16_384, 3616])
    expect(with2(4096)).toEqual([4097, 15_903])
  })

  test('an end is seen at every place of the lanes that are hashed side by side, by the bytes before it in another lane too', () => {
    // ten bytes after the byte 2 the byte 3 brings the hash to zero, if it has seen both
    let h = 0xc0000000 << 1
    h += 12_345
    for (let n = 0; n < 9; n++) h = (h << 1) + 0x40000000
    const table = Int32Array.from(steered)
      .fill(12_345, 2, 3)
      .fill(-(h << 1), 3, 4)
    // the first lanes begin at byte number a
    for (let lane = 4096; lane < 4096 + 6 * 1024; lane += 1024) {
      for (let at = lane; at < lane + 34; at++) {
        const bytes = Buffer.alloc(14_000, 1)
          .fill(2, at - 10, at - 9)
          .fill(3, at, at + 1)
        expect(cuts(bytes, small, [], table), `${at}`).toEqual([at + 1, 14_000 - at - 1])
      }
    }
  })

  test('between ends bytes are read four at a time: one by one are those near an end, and where a lane begins', () => {
    const bytes = seededBytes(11, 6_000_000)
    const average = 262_144
    let one = 0
    const counted = new Proxy(bytes, {
      get(target, property) {
        if (typeof property === 'string' && /^\d+$/.test(property)) one++
        const value = Reflect.get(target, property, target) as unknown
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
    const lengths: number[] = []
    const chunker = createChunker(
      { kind: 'content-defined', averageBytes: average },
      gear,
      (chunk) => void lengths.push(chunk.length),
    )
    chunker.push(counted)
    chunker.end()
    expect(lengths).toEqual(written(bytes, average, gear))
    expect(one).toBeGreaterThan(lengths.length)
    expect(one).toBeLessThan(bytes.length * 0.07)
  })

  test('do not depend on where in memory the bytes lie', () => {
    const bytes = seededBytes(9, 60_000)
    const room = Buffer.from(new ArrayBuffer(bytes.length + 8))
    for (let at = 0; at < 8; at++) {
      bytes.copy(room, at)
      expect(cuts(room.subarray(at, at + bytes.length), small), `at ${at}`).toEqual(written(bytes, 4096, gear))
    }
    // each ends with the first byte at which it may, before the words of memory begin that are read at once
    const zeros = Buffer.from(new ArrayBuffer(20_008))
    const large: Chunking = { kind: 'content-defined', averageBytes: 16_384 }
    for (let at = 0; at < 8; at++) {
      expect(cuts(zeros.subarray(at, at + 20_000), large, [], steered), `at ${at}`).toEqual([4097, 4097, 4097, 4097, 3612])
    }
  })

  test('two sources are cut by turns, each by its own key', () => {
    const bytes = seededBytes(10, 60_000)
    const tables = [gear, gearTable(Buffer.alloc(32, 8))]
    const made = tables.map((table) => {
      const lengths: number[] = []
      return { lengths, chunker: createChunker(small, table, (chunk) => lengths.push(chunk.length)) }
    })
    for (let at = 0; at < bytes.length; at += 5000) for (const { chunker } of made) chunker.push(bytes.subarray(at, at + 5000))
    for (const { chunker } of made) chunker.end()
    expect(made.map(({ lengths }) => lengths)).toEqual(tables.map((table) => written(bytes, 4096, table)))
  })

  test('no bytes make no chunk, and the end of an extent makes none by itself', () => {
    const lengths: number[] = []
    const chunker = createChunker({ kind: 'fixed', bytes: 512 }, gear, (chunk) => lengths.push(chunk.length))
    chunker.end()
    chunker.push(Buffer.alloc(0))
    chunker.push(Buffer.alloc(1024))
    chunker.end()
    chunker.push(Buffer.alloc(700))
    chunker.end()
    chunker.end()
    expect(lengths).toEqual([512, 512, 512, 188])
  })

  test('a chunk that is whole in what was given is a view of it, without a copy', () => {
    const bytes = seededBytes(9, 2048)
    const views: boolean[] = []
    const chunker = createChunker({ kind: 'fixed', bytes: 1024 }, gear, (chunk) => views.push(chunk.buffer === bytes.buffer))
    chunker.push(bytes)
    expect(views).toEqual([true, true])
  })

  test('every cut is where FORMAT.md has it, wherever a chunk could end', () => {
    fc.assert(
      fc.property(fc.array(stretch, { maxLength: 12 }), fc.array(fc.nat(), { maxLength: 6 }), (stretches, places) => {
        const bytes = Buffer.concat(stretches)
        const splits = places.map((place) => place % (bytes.length + 1))
        expect(cuts(bytes, small, splits, steered)).toEqual(written(bytes, 4096, steered))
      }),
      { numRuns: 60, seed: 20_261_121 },
    )
  })

  test('however the input is split, the chunks are the same', () => {
    const bytes = seededBytes(1, 60_000)
    const chunkings: Chunking[] = [small, { kind: 'fixed', bytes: 8192 }]
    for (const chunking of chunkings) {
      const whole = cuts(bytes, chunking)
      fc.assert(
        fc.property(fc.array(fc.integer({ min: 0, max: bytes.length }), { maxLength: 40 }), (splits) => {
          expect(cuts(bytes, chunking, splits)).toEqual(whole)
        }),
        { numRuns: 30 },
      )
    }
    const bytewise = Array.from({ length: 50_000 }, (_, n) => n)
    expect(cuts(bytes.subarray(0, 50_000), small, bytewise)).toEqual(cuts(bytes.subarray(0, 50_000), small))
  })

  test('the bytes of the chunks are the input', () => {
    const bytes = seededBytes(2, 300_000)
    const parts: Buffer[] = []
    const chunker = createChunker(small, gear, (chunk) => parts.push(Buffer.from(chunk)))
    for (let at = 0; at < bytes.length; at += 777) chunker.push(bytes.subarray(at, at + 777))
    chunker.end()
    expect(Buffer.concat(parts).equals(bytes)).toBe(true)
  })

  test('content-defined chunks lie between a quarter and four times the average', () => {
    const lengths = cuts(seededBytes(3, 1_000_000), small)
    expect(Math.max(...lengths)).toBeLessThanOrEqual(16_384)
    expect(Math.min(...lengths.slice(0, -1))).toBeGreaterThanOrEqual(1024)
    const average = 1_000_000 / lengths.length
    expect(average).toBeGreaterThan(3000)
    expect(average).toBeLessThan(6500)
    expect(
      cuts(Buffer.alloc(100_000), small)
        .slice(0, -1)
        .every((length) => length === 16_384),
    ).toBe(true)
  })

  test('an edit moves no chunk that is not near it', () => {
    const bytes = seededBytes(4, 1_000_000)
    const edited = Buffer.concat([bytes.subarray(0, 400_000), Buffer.from('inserted'), bytes.subarray(400_000)])
    const names = (of: Buffer) => {
      const found = new Set<string>()
      const chunker = createChunker(small, gear, (chunk) => found.add(sha256(chunk).toString('hex')))
      chunker.push(of)
      chunker.end()
      return found
    }
    const before = names(bytes)
    expect([...names(edited)].filter((name) => !before.has(name)).length).toBeLessThan(6)
  })

  test('another gear key gives other chunks: lengths say nothing about known files', () => {
    const bytes = seededBytes(5, 500_000)
    expect(cuts(bytes, small, [], gearTable(Buffer.alloc(32, 8)))).not.toEqual(cuts(bytes, small))
  })

  test('sizes that the format does not have are refused, and those that it has are not', () => {
    const refusal = (what: string) =>
      expect.objectContaining({
        code: 'invalid_argument',
        message: `${what} are not supported`,
        hint: 'Use a power of two from 4 KiB to 1 MiB for content-defined chunks, and 512 bytes to 1 MiB for fixed ones.',
      })
    for (const averageBytes of [5000, 2 ** 11, 2 ** 21, 2 ** 24, 0, Number.NaN]) {
      const cut = () => cuts(Buffer.alloc(1), { kind: 'content-defined', averageBytes })
      expect(cut).toThrow(refusal(`content-defined chunks of ${averageBytes} bytes`))
    }
    for (const bytes of [16, 511, 2 ** 20 + 1, 1000.5, Number.NaN]) {
      expect(() => cuts(Buffer.alloc(1), { kind: 'fixed', bytes })).toThrow(refusal(`fixed chunks of ${bytes} bytes`))
    }
    for (const bytes of [512, 513, 2 ** 20]) expect(cuts(Buffer.alloc(bytes + 1), { kind: 'fixed', bytes })).toEqual([bytes, 1])
    const zeros = (averageBytes: number) =>
      cuts(Buffer.alloc(4 * averageBytes + 1, 1), { kind: 'content-defined', averageBytes }, [], steered)
    for (const averageBytes of [2 ** 12, 2 ** 20]) expect(zeros(averageBytes)).toEqual([4 * averageBytes, 1])
  })
})
