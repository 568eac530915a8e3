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
  const holders = new Set(used.map((one) => Number(one.split(' ')[0])))
  expect(chunksOf.map((_, ref) => places.hasUsed(ref))).toEqual(chunksOf.map((_, ref) => holders.has(ref)))
  expect(chunksOf.map((_, ref) => places.chunksOf(ref))).toEqual(chunksOf)
})

test('what was marked stays marked while blocks are added, and of those nothing is', () => {
  const places = new Places(Array.from({ length: 40 }, () => 13))
  for (let ref = 0; ref < 40; ref++) places.markUsed(ref, ref % 13, 1)
  const own = Array.from({ length: 20_000 }, (_, n) => {
    const ref = places.begin()
    places.place(ref, 0, n, 9)
    if (n % 2 === 0) places.markUsed(ref, n % 9, 1)
    return ref
  })
  for (let ref = 0; ref < 40; ref++) expect(places.usedRuns(ref)).toEqual([{ first: ref % 13, count: 1 }])
  expect(
    own.every((ref, n) => JSON.stringify(places.usedRuns(ref)) === JSON.stringify(n % 2 ? [] : [{ first: n % 9, count: 1 }])),
  ).toBe(true)
})
