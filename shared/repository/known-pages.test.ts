import { randomBytes } from 'node:crypto'
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { MIB } from './format.ts'
import { PAGE_BYTES, PageWriter } from './known-layout.ts'
import { CACHED_OF_TREES, CheckedPages, NameFilter, SortedPages } from './known-pages.ts'
import { temporaryFolder } from './testing/temporary-folders.ts'

test('the filter in memory has a cap of 4 MiB, however long the list is, and never denies a name that it was given', () => {
  const before = process.memoryUsage().arrayBuffers
  const filter = new NameFilter(1_000_000_000_000)
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThanOrEqual(5 * MIB)
  const names = Array.from({ length: 10_000 }, () => randomBytes(32))
  for (const name of names) filter.add(name)
  expect(names.every((name) => filter.mayHold(name))).toBe(true)
})

test.each([
  ['one in a hundred', 100_000, 0.01],
  ['one in twenty', 5_000_000, 0.05],
  ['a half', 20_000_000, 0.5],
])('the filter lets fewer than %s of other names pass where the list has %i', (_how, rows, most) => {
  const filter = new NameFilter(rows)
  // a name begins at every byte: as good as any others, and quickly made
  const names = randomBytes(rows + 32)
  for (let n = 0; n < rows; n++) filter.add(names, n)
  for (let n = 0; n < rows; n += 997) expect(filter.mayHold(names.subarray(n, n + 32))).toBe(true)
  const strangers = Array.from({ length: 20_000 }, () => randomBytes(32))
  expect(strangers.filter((name) => filter.mayHold(name)).length).toBeLessThan(20_000 * most)
})

test('a page that is damaged after the list was opened is no row, and neither is what lies behind the last one', () => {
  const fd = openSync(path.join(temporaryFolder(), 'pages'), 'wx+')
  let at = 0
  const pages = new PageWriter(10, (bytes) => void (at += writeSync(fd, bytes, 0, bytes.length, at)))
  for (let n = 0; n < 1000; n++) pages.add(Buffer.from(String(n).padStart(10, '0')))
  pages.end()
  expect(at).toBe(3 * PAGE_BYTES)
  const rows = new CheckedPages(fd, 0, 1000, 10, 'list')
  expect([0, 999, 409, 408, 5].map((n) => Number(rows.row(n)))).toEqual([0, 999, 409, 408, 5])
  expect([...rows.rows()].length).toBe(1000)
  expect(() => rows.row(1000)).toThrow(expect.objectContaining({ code: 'object_damaged' }))
  writeSync(fd, 'x', PAGE_BYTES + 100)
  expect(() => new CheckedPages(fd, 0, 1000, 10, 'list').row(500)).toThrow(expect.objectContaining({ code: 'object_damaged' }))
  closeSync(fd)
})

test.each([
  ['but for their last two bytes', 14],
  ['in their first four bytes', 4],
])('every row is found by its key and nothing else is, also where whole pages of keys are alike %s', (_how, at) => {
  const alike = Array.from({ length: 1000 }, (_, n) => {
    const key = Buffer.alloc(16, 0x80)
    key.writeUInt16BE(n * 3, at)
    return key
  })
  const keys = [...alike, ...Array.from({ length: 5000 }, () => randomBytes(16))].sort(Buffer.compare)
  const fd = openSync(path.join(temporaryFolder(), 'pages'), 'wx+')
  try {
    const writer = new PageWriter(20, (page) => void writeSync(fd, page))
    keys.forEach((key, n) => {
      const row = Buffer.alloc(20)
      row.writeUInt32BE(n, key.copy(row))
      writer.add(row)
    })
    writer.end()
    const pages = new SortedPages(fd, 0, keys.length, 20, 16, 'pages')
    pages.load(null)
    keys.forEach((key, n) => {
      expect(pages.find(key)?.readUInt32BE(16)).toBe(n)
    })
    const between = alike.map((key) => {
      const other = Buffer.from(key)
      other.writeUInt16BE(key.readUInt16BE(at) + 1, at)
      return other
    })
    const strangers = [
      ...between,
      Buffer.alloc(16),
      Buffer.alloc(16, 0xff),
      ...Array.from({ length: 1000 }, () => randomBytes(16)),
    ]
    for (const key of strangers) expect(pages.find(key)).toBeNull()
  } finally {
    closeSync(fd)
  }
})

test('pages that a tree of a hundred thousand files asks for in no order are read and checked once each', () => {
  const keys = Array.from({ length: 100_000 }, () => randomBytes(16))
  const fd = openSync(path.join(temporaryFolder(), 'pages'), 'wx+')
  try {
    const writer = new PageWriter(22, (page) => void writeSync(fd, page))
    for (const key of keys.toSorted(Buffer.compare)) writer.add(Buffer.concat([key, Buffer.alloc(6)]))
    writer.end()
    const pages = new SortedPages(fd, 0, keys.length, 22, 16, 'pages', CACHED_OF_TREES)
    pages.load(null)
    expect(keys.every((key) => pages.find(key))).toBe(true)
    // what is looked up now and is not on the disk any more comes out of memory
    ftruncateSync(fd, 0)
    expect(keys.every((key) => pages.find(key))).toBe(true)
  } finally {
    closeSync(fd)
  }
})
