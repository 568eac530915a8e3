import { expect, test } from 'vitest'
import { Places } from './places.ts'
import { usedBlocks } from './used-blocks.ts'

type At = [origin: number, pack: number, block: number]

/** A block of one chunk at each of these places, in this order; every one of them used but those of `unused`. */
function blocksAt(at: At[], unused: readonly number[] = []) {
  const places = new Places(at.map(() => 1))
  for (const ref of at.keys()) if (!unused.includes(ref)) places.markUsed(ref, 0, 1)
  const locate = (ref: number, first: number, count: number) => {
    const [origin, pack, block] = at[ref] as At
    return { origin, pack, block, first, count }
  }
  return [places, { locate }] as const
}

test('blocks come by origin, then by pack, then by their number in it, without those that nothing references', () => {
  const at: At[] = [
    [2, 0, 1],
    [0, 70_000, 3],
    [1, 5, 65_535],
    [0, 70_000, 0],
    [1, 6, 0],
    [2, 0, 0],
    [0, 4, 9],
    [999, 2 ** 27 - 1, 65_535],
    [999, 2 ** 27 - 1, 65_534],
  ]
  expect([...usedBlocks(...blocksAt(at))]).toEqual([6, 3, 1, 2, 4, 5, 0, 8, 7])
  expect([...usedBlocks(...blocksAt(at, [3, 0]))]).toEqual([6, 1, 2, 4, 5, 8, 7])
  expect([...usedBlocks(...blocksAt(at, [...at.keys()]))]).toEqual([])
})

test('of two blocks at one place each is there', () => {
  const at: At[] = [
    [0, 1, 1],
    [0, 0, 0],
    [0, 1, 1],
    [0, 1, 1],
    [0, 2, 0],
  ]
  expect([...usedBlocks(...blocksAt(at))]).toEqual([1, 0, 2, 3, 4])
})

test('a pack with a number that no backup has is refused', () => {
  expect(() => usedBlocks(...blocksAt([[0, 2 ** 27, 0]]))).toThrow(RangeError)
})
