import fc from 'fast-check'
import { expect, test } from 'vitest'
import { linesOf } from './lines.ts'
import { pieces } from './rows.ts'
import type { Table } from './tables.ts'

const table = (pages: number, more: Partial<Table> = {}): Table => ({
  oid: 1,
  schema: 's',
  name: 't',
  part: 's.t',
  holdsRows: true,
  columns: ['a'],
  sizeBytes: pages * 8192,
  pages,
  heap: true,
  condition: null,
  loadInto: null,
  ...more,
})

test('the ranges of a large table cover every page once, and the last one has no end', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 300 }), (pages, rangePages) => {
      const ranges = pieces([table(pages)], rangePages * 8192)
        .map((piece) => piece.pages ?? { from: 0, to: null })
        .sort((a, b) => a.from - b.from)
      let next = 0
      for (const range of ranges) {
        expect(range.from).toBe(next)
        next = range.to ?? Number.POSITIVE_INFINITY
      }
      expect(next).toBe(Number.POSITIVE_INFINITY)
      expect(ranges.filter((range) => range.to === null)).toHaveLength(1)
    }),
  )
})

test('ranges begin at the same pages while a table grows', () => {
  const starts = (pages: number) =>
    pieces([table(pages)], 100 * 8192)
      .map((piece) => piece.pages?.from ?? 0)
      .sort((a, b) => a - b)
  expect(starts(1050).slice(0, 10)).toEqual(starts(950))
})

test('what has no pages of rows is never cut', () => {
  for (const odd of [{ heap: false }, { condition: 'where true' }, { columns: [] }]) {
    expect(pieces([table(10_000, odd)], 8192)).toMatchObject([{ pages: null }])
  }
})

test('lines end at a newline alone, however the bytes come', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ unit: 'binary' }).map((text) => text.replaceAll('\n', ''))),
      fc.integer({ min: 1, max: 9 }),
      async (lines, size) => {
        const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''))
        const given = (async function* () {
          for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
        })()
        expect(await Array.fromAsync(linesOf(given))).toEqual(lines.map((line) => line.toWellFormed()))
      },
    ),
  )
  const endless = (async function* () {
    for (;;) yield Buffer.alloc(65_536, 120)
  })()
  await expect(Array.fromAsync(linesOf(endless))).rejects.toMatchObject({ code: 'backup_invalid' })
})
