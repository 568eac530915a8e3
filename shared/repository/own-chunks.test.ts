import { randomBytes } from 'node:crypto'
import { closeSync, openSync, writeSync } from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { MIB } from './format.ts'
import { OwnChunks } from './own-chunks.ts'
import { seededBytes } from './testing/content.ts'
import { temporaryFolder } from './testing/temporary-folders.ts'

const COUNT = 200_000
const names = seededBytes(1, COUNT * 32)
const nameOf = (n: number) => names.subarray(n * 32, (n + 1) * 32)
const placeOf = (n: number) => ({ ref: n * 3, index: n % 60_000 })

function filled(file: string): OwnChunks {
  const own = new OwnChunks(1_000_000, file)
  for (let n = 0; n < COUNT; n++) own.add(nameOf(n), placeOf(n).ref, placeOf(n).index)
  return own
}

test('every chunk that a backup has stored is found again, those that memory has no room for too, and no other is', () => {
  const before = process.memoryUsage().arrayBuffers
  const own = filled(path.join(temporaryFolder(), 'own'))
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2.5 * MIB)
  for (let n = 0; n < COUNT; n += 7) expect(own.get(nameOf(n))).toEqual(placeOf(n))
  expect(own.get(nameOf(COUNT - 1))).toEqual(placeOf(COUNT - 1))
  for (let n = 0; n < 2000; n++) {
    // the same in memory, another on the disk
    const stranger = Buffer.from(nameOf(n * 100))
    stranger[31] = (stranger[31] as number) ^ 1
    expect(own.get(stranger)).toBeNull()
  }
  // a second time it is not entered
  own.add(nameOf(150_000), 1, 1)
  expect([own.count, own.get(nameOf(150_000))]).toEqual([COUNT, placeOf(150_000)])
  own.close()
})

test('a million chunks take 6 MB of memory, also while the table grows, and what comes then is not entered', () => {
  const name = Buffer.alloc(32)
  // a permutation of the first four bytes, and of the two behind them
  const nameAt = (n: number): Buffer => {
    name.writeUInt32LE(Math.imul(n, 0x9e3779b1) >>> 0, 0)
    name.writeUInt32LE(Math.imul(n, 0x85ebca6b) >>> 0, 4)
    return name
  }
  const before = process.memoryUsage().arrayBuffers
  const own = new OwnChunks(1_000_000, path.join(temporaryFolder(), 'own'))
  let most = 0
  for (let n = 0; n < 1_000_010; n++) {
    own.add(nameAt(n), n, 0)
    if (n % 1024 === 1) most = Math.max(most, process.memoryUsage().arrayBuffers - before)
  }
  expect(most).toBeLessThan(6e6)
  expect(own.count).toBe(1_000_000)
  const found = (n: number) => own.get(nameAt(n))?.ref
  expect([0, 16_383, 16_384, 500_000, 999_999].map(found)).toEqual([0, 16_383, 16_384, 500_000, 999_999])
  expect([1_000_000, 1_000_009, 2_000_000].map(found)).toEqual([undefined, undefined, undefined])
  expect(() => new OwnChunks(2 ** 20)).toThrow(RangeError)
  own.close()
})

test('a place that the disk gives back otherwise is no place: the chunk is stored again', () => {
  const file = path.join(temporaryFolder(), 'own')
  const own = filled(file)
  const fd = openSync(file, 'r+')
  const ref = 34
  writeSync(fd, Buffer.from([0xff]), 0, 1, (100_000 - 16_384) * 42 + ref)
  closeSync(fd)
  expect(own.get(nameOf(99_999))).toEqual(placeOf(99_999))
  expect(own.get(nameOf(100_000))).toBeNull()
  own.add(nameOf(100_000), 5, 6)
  expect(own.get(nameOf(100_000))).toEqual({ ref: 5, index: 6 })
  own.close()
})

test('a name that the disk gives back otherwise while the table grows is no chunk, and every other one is', () => {
  const file = path.join(temporaryFolder(), 'own')
  const own = new OwnChunks(1_000_000, file)
  const add = (from: number, to: number) => {
    for (let n = from; n < to; n++) own.add(nameOf(n), placeOf(n).ref, placeOf(n).index)
  }
  add(0, 100_000)
  const fd = openSync(file, 'r+')
  writeSync(fd, randomBytes(32), 0, 32, (20_000 - 16_384) * 42)
  closeSync(fd)
  // the table has grown at 131,072
  add(100_000, COUNT)
  for (let n = 19_990; n < 20_010; n++) expect(own.get(nameOf(n))).toEqual(n === 20_000 ? null : placeOf(n))
  own.close()
})
