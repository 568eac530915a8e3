import { randomBytes } from 'node:crypto'
import path from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { BucketSpool } from './bucket-spool.ts'
import { removeTemporaryFolders, temporaryFolder } from './testing/temporary-folders.ts'

afterAll(removeTemporaryFolders)

const KEY = 16

/** Rows of a key and the number under which each was added. */
function sorted(keys: readonly Buffer[], keep: (n: number) => boolean = () => true): Array<[string, number]> {
  const spool = new BucketSpool(path.join(temporaryFolder(), 'spool'), KEY + 4, KEY)
  try {
    keys.forEach((key, n) => {
      spool.add(key[0] as number, (row) => row.writeUInt32LE(n, key.copy(row)))
    })
    const rows = spool.sorted((row) => keep(row.readUInt32LE(KEY)))
    return Array.from(rows, (row) => [row.toString('hex', 0, KEY), row.readUInt32LE(KEY)])
  } finally {
    spool.close()
  }
}

/** What `sorted` has to give, by the plain way. */
function expected(keys: readonly Buffer[], keep: (n: number) => boolean = () => true): Array<[string, number]> {
  const first = new Map<string, number>()
  keys.forEach((key, n) => {
    if (keep(n) && !first.has(key.toString('hex'))) first.set(key.toString('hex'), n)
  })
  return [...first].sort(([a], [b]) => (a < b ? -1 : 1))
}

test('rows come back in the order of their keys, more than memory holds, of equal keys the one that was added first', () => {
  const keys = Array.from({ length: 150_000 }, () => randomBytes(KEY))
  for (let n = 0; n < 5000; n++) keys.push(Buffer.from(keys[(n * 31) % 150_000] as Buffer))
  expect(sorted(keys)).toEqual(expected(keys))
  const odd = (n: number) => n % 2 === 1
  expect(sorted(keys, odd)).toEqual(expected(keys, odd))
})

test('keys that begin alike are told apart by their last bytes', () => {
  const keys = Array.from({ length: 3000 }, (_, n) => {
    const key = Buffer.alloc(KEY, 0xff)
    // bits on both sides of what is sorted as a number, and of it
    key.writeUInt32BE(0xff00_0000 + (n % 3), 0)
    key[4] = (n * 7) % 256
    key[KEY - 1] = (n * 13) % 251
    return key
  })
  expect(sorted(keys)).toEqual(expected(keys))
  expect(new Set(sorted(keys).map(([key]) => key.slice(0, 8))).size).toBe(3)
})
