import { expect, test } from 'vitest'
import type { RowsArtifact } from './artifacts.ts'
import { batches } from './copy-in.ts'

const copy = (bytes: number, letters = 50) => ({ rows: { bytes } as RowsArtifact, statement: 'x'.repeat(letters) })
const sizes = (made: ReturnType<typeof batches>) => made.map((batch) => batch.length)

test('large tables have a psql each; small ones share one, as many as it can take', () => {
  const large = [copy(5_000_000), copy(2_000_000)]
  const small = Array.from({ length: 450 }, () => copy(100))
  expect(sizes(batches([...large, ...small]))).toEqual([1, 1, 200, 200, 50])
  expect(batches([...large, ...small]).flat()).toEqual([...large, ...small])
  expect(batches([])).toEqual([])
})

test('neither rows nor statements of one psql grow beyond their limit', () => {
  expect(sizes(batches(Array.from({ length: 9 }, () => copy(300_000))))).toEqual([3, 3, 3])
  // all arguments together: Linux takes 2 MiB, one of them 128 KiB
  expect(sizes(batches(Array.from({ length: 4 }, () => copy(0, 60_000))))).toEqual([2, 2])
  expect(sizes(batches([copy(0, 131_000), copy(0, 120_000)]))).toEqual([1, 1])
})
