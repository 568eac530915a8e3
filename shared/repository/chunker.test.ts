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
  const chunker = createChunker(chunking, table, (chunk) => lengths.push(chunk.length))
  let at = 0
  for (const split of [...splits].sort((a, b) => a - b)) {
    chunker.push(bytes.subarray(at, split))
    at = split
  }
  chunker.push(bytes.subarray(at))
  chunker.end()
  return lengths
}

describe('chunks', () => {
  test('however the input is split, the chunks are the same', () => {
    const bytes = seededBytes(1, 200_000)
    const chunkings: Chunking[] = [small, { kind: 'fixed', bytes: 8192 }]
    for (const chunking of chunkings) {
      const whole = cuts(bytes, chunking)
      fc.assert(
        fc.property(fc.array(fc.integer({ min: 0, max: bytes.length }), { maxLength: 40 }), (splits) => {
          expect(cuts(bytes, chunking, splits)).toEqual(whole)
        }),
        { numRuns: 60 },
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
    const lengths = cuts(seededBytes(3, 4_000_000), small)
    expect(Math.max(...lengths)).toBeLessThanOrEqual(16_384)
    expect(Math.min(...lengths.slice(0, -1))).toBeGreaterThanOrEqual(1024)
    const average = 4_000_000 / lengths.length
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

  test('sizes that the format does not have are refused', () => {
    expect(() => cuts(Buffer.alloc(1), { kind: 'content-defined', averageBytes: 5000 })).toThrow(/not supported/)
    expect(() => cuts(Buffer.alloc(1), { kind: 'content-defined', averageBytes: 2 ** 24 })).toThrow(/not supported/)
    expect(() => cuts(Buffer.alloc(1), { kind: 'fixed', bytes: 16 })).toThrow(/not supported/)
  })
})
