import { expect, test } from 'vitest'
import { choosePacks, isWhole, type VerifyBudget } from './verify-budget.ts'

const ago: Readonly<Record<string, number>> = { b: 100, c: 300, d: 200, e: 50 }
const packs = ['a', 'b', 'c', 'd', 'e'].map((name) => ({ backupId: 'x', name, size: 10 }))
const budget = (more: Partial<VerifyBudget>): VerifyBudget => ({
  olderThanSeconds: 0,
  share: 1,
  planOnly: false,
  verifiedSecondsAgo: (_id, name) => ago[name],
  ...more,
})
const chosen = (more: Partial<VerifyBudget>) =>
  choosePacks(packs, budget(more))
    .map(({ name }) => name)
    .join('')

test.each([
  ['all, those never verified first, then the least recently verified', {}, 'acdbe'],
  ['those not verified for so long, and those never verified', { olderThanSeconds: 200 }, 'acd'],
  ['as many as fit into the share of all bytes', { share: 0.4 }, 'ac'],
  ['as many of the due ones as fit into it', { share: 0.9, olderThanSeconds: 200 }, 'acd'],
  ['one at least, so that every run gets on', { share: 0.001 }, 'a'],
  ['none when none is due', { olderThanSeconds: 200, verifiedSecondsAgo: () => 0 }, ''],
])('a budget chooses %s', (_what, more, expected) => {
  expect(chosen(more)).toBe(expected)
})

test('shares one after the other come round to every pack', () => {
  const at = new Map<string, number>()
  for (let run = 1; run <= 3; run++) {
    const of = budget({ share: 0.4, verifiedSecondsAgo: (_id, name) => (at.has(name) ? 100 - (at.get(name) ?? 0) : undefined) })
    for (const { name } of choosePacks(packs, of)) at.set(name, run)
  }
  expect([...at.keys()].sort().join('')).toBe('abcde')
})

test('without a budget everything is read', () => {
  expect(isWhole(budget({}))).toBe(true)
  expect([{ share: 0.5 }, { olderThanSeconds: 1 }, { planOnly: true }].map((more) => isWhole(budget(more)))).toEqual([
    false,
    false,
    false,
  ])
})
