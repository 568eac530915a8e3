import { describe, expect, test } from 'vitest'
import { RunningSum, sumOf } from './sums.mjs'
import { seededBytes } from './testing/content.ts'

const bytes = seededBytes(1, 300)

describe('a sum of bytes', () => {
  test('is another for every single flipped bit', () => {
    const sums = new Set([sumOf(bytes)])
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7))
      sums.add(sumOf(flipped))
    }
    expect(sums.size).toBe(bytes.length * 8 + 1)
  })

  test('is another when there is one byte less, or a zero more', () => {
    const sums = [bytes, bytes.subarray(1), bytes.subarray(0, -1), Buffer.concat([bytes, Buffer.alloc(1)]), Buffer.alloc(0)].map(
      sumOf,
    )
    expect(new Set(sums).size).toBe(sums.length)
    expect(sums.map(({ length }) => length)).toEqual(sums.map(() => 16))
  })

  test('is the same however the bytes come, and what another library makes of them', () => {
    for (const at of [1, 15, 16, 17, 150]) {
      const running = new RunningSum()
      running.add(bytes.subarray(0, at))
      running.add(bytes.subarray(at))
      expect(running.end()).toBe(sumOf(bytes))
    }
    expect(Buffer.from(sumOf(Buffer.from('holdfast')), 'latin1').toString('hex')).toBe('0b5c81d8608ade0483a58c34cb337dfb')
  })
})
