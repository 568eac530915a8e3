import { expect, test } from 'vitest'
import { VerifyWork } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import { budgetOf, goodBits } from './verify-budget.ts'

test('a command without a budget, as an older control plane sends it, means everything', () => {
  expect(budgetOf(VerifyWork.fromPartial({}))).toMatchObject({ olderThanSeconds: 0, share: 1, planOnly: false })
})

test('a budget is as the command says, and what it does not name was never verified', () => {
  const budget = budgetOf(
    VerifyWork.fromPartial({
      olderThanSeconds: 60,
      sharePermille: 125,
      verified: [{ backupId: 'x', packs: [{ name: 'packs/1', secondsAgo: 7 }] }],
    }),
  )
  expect([budget.olderThanSeconds, budget.share]).toEqual([60, 0.125])
  expect(budget.verifiedSecondsAgo('x', 'packs/1')).toBe(7)
  expect(budget.verifiedSecondsAgo('y', 'packs/1')).toBeUndefined()
})

test('a share of more than the whole is refused', () => {
  expect(() => budgetOf(VerifyWork.fromPartial({ sharePermille: 1001 }))).toThrow(
    expect.objectContaining({ code: 'invalid_argument' }),
  )
})

test('what is good is told in one bit for each object', () => {
  const [told] = goodBits(new Map([['x', [0, 9, 23]]]))
  expect([told?.backup_id, [...Buffer.from(told?.objects ?? '', 'base64')]]).toEqual(['x', [1, 2, 128]])
  expect(goodBits(new Map())).toEqual([])
})

test('an answer stays within one message however many large backups are leaned on', () => {
  const good = new Map(Array.from({ length: 40 }, (_, n): [string, number[]] => [`backup-${n}`, [0, 199_999]]))
  const told = goodBits(good)
  expect(JSON.stringify(told).length).toBeLessThan(600_000)
  expect(told.length).toBeGreaterThan(10)
  expect(told.map(({ backup_id }) => backup_id)).toEqual([...good.keys()].slice(0, told.length))
})
