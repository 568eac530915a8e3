import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { MIB } from './format.ts'
import { NameFilter } from './known-pages.ts'

test('the filter in memory has a cap of 32 MiB, however long the list is, and never denies a name that it was given', () => {
  const before = process.memoryUsage().arrayBuffers
  const filter = new NameFilter(1_000_000_000_000)
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThanOrEqual(33 * MIB)
  const names = Array.from({ length: 10_000 }, () => randomBytes(32))
  for (const name of names) filter.add(name)
  expect(names.every((name) => filter.mayHold(name))).toBe(true)
  const strangers = Array.from({ length: 10_000 }, () => randomBytes(32))
  expect(strangers.filter((name) => filter.mayHold(name)).length).toBeLessThan(10)
})
