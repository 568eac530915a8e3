import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Directory, type DirectoryRow, writeDirectory } from './directory.ts'
import { EarlierChunks } from './earlier-chunks.ts'
import { LIMITS, NAME_BYTES, sha256 } from './format.ts'
import { temporaryFolder } from './testing/temporary-folders.ts'

const name = (n: number): Buffer => sha256(Buffer.from(String(n)))
const fail = (what: string): Error => new Error(what)

/** A pack with blocks of so many chunks, whose names count on from `first`. */
function pack(first: number, blocks: readonly number[]): Directory {
  let n = first
  const rows = blocks.map((count): DirectoryRow => {
    const names = Buffer.concat(Array.from({ length: count }, () => name(n++)))
    const lengths = new Uint32Array(count).fill(10)
    return { kind: count > 0 ? 'data' : 'page', codec: 'stored', sealedLength: 26, plainLength: count * 10, lengths, names }
  })
  return Directory.read(writeDirectory(rows), blocks.length, LIMITS.pack, fail)
}

describe('chunks of earlier attempts beyond what memory holds', () => {
  test('in the order in which they were stored, each is found at its place, through growth and any number of packs', () => {
    const earlier = new EarlierChunks(temporaryFolder())
    const places: Array<{ ref: number; index: number }> = []
    let ref = 100
    for (let n = 0; n < 300; n++) {
      const counts = Array.from({ length: 20 }, (_, block) => (block === 7 ? 0 : 1 + ((n + block) % 30)))
      const refs = Int32Array.from(counts, (count) => (count > 0 ? ref++ : -1))
      earlier.addPack(pack(places.length, counts), refs)
      counts.forEach((count, block) => {
        for (let index = 0; index < count; index++) places.push({ ref: refs[block] as number, index })
      })
    }
    expect(places.length).toBeGreaterThan(80_000)
    expect(places.findIndex((place, n) => JSON.stringify(earlier.get(name(n))) !== JSON.stringify(place))).toBe(-1)
    expect(earlier.get(name(places.length))).toBeNull()
    earlier.close()
  })

  test('whatever is asked, a place is that of the very name, or there is none', () => {
    const earlier = new EarlierChunks(temporaryFolder())
    earlier.addPack(pack(0, [4, 4, 4]), Int32Array.of(7, 8, 9))
    fc.assert(
      fc.property(fc.nat({ max: 20 }), fc.nat({ max: NAME_BYTES * 8 - 1 }), fc.boolean(), (n, bit, isFlipped) => {
        const asked = Buffer.from(name(n))
        if (isFlipped) (asked[bit >> 3] as number) ^= 1 << (bit & 7)
        const found = earlier.get(asked)
        if (isFlipped || n >= 12) expect(found).toBeNull()
        else if (found) expect(found).toEqual({ ref: 7 + (n >> 2), index: n & 3 })
        // the first of a block is always found
        else expect(n & 3).not.toBe(0)
      }),
    )
    earlier.close()
  })

  test('without one nothing is found and no file is made', () => {
    const earlier = new EarlierChunks('/nowhere')
    expect(earlier.get(name(1))).toBeNull()
    earlier.close()
  })
})
