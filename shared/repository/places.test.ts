import { expect, test } from 'vitest'
import { Places } from './places.ts'
import { seededBytes } from './testing/content.ts'

test('every chunk of the base and of the backup has a bit of its own', () => {
  const draw = seededBytes(1, 5000)
  const baseChunks = Uint16Array.from({ length: 200 }, (_, n) => 1 + (draw[n] as number))
  const places = new Places(baseChunks)
  const chunksOf = Array.from(baseChunks)
  for (let n = 0; n < 2000; n++) {
    const ref = places.begin()
    expect(places.isPlaced(ref)).toBe(false)
    chunksOf[ref] = 1 + ((draw[200 + n] as number) % 20)
    places.place(ref, n % 7, n, chunksOf[ref] as number)
    expect([places.isPlaced(ref), places.packOf(ref), places.blockOf(ref)]).toEqual([true, n % 7, n])
  }
  expect(places.count).toBe(2200)
  const marked = new Set<string>()
  for (let n = 0; n < 1000; n++) {
    const ref = draw.readUInt32LE(n * 4) % places.count
    const first = (draw[n] as number) % (chunksOf[ref] as number)
    places.markUsed(ref, first, 1)
    marked.add(`${ref} ${first}`)
  }
  const used = chunksOf.flatMap((chunks, ref) =>
    Array.from({ length: chunks }, (_, index) => `${ref} ${index}`).filter((_, index) => places.isUsed(ref, index)),
  )
  expect(used.sort()).toEqual([...marked].sort())
  expect(chunksOf.map((_, ref) => places.chunksOf(ref))).toEqual(chunksOf)
})
