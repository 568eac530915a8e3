import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { judgeRenewal, judgeToken } from './identity.ts'

const key = (n: number) => Buffer.from([n])
const at = (minute: number) => new Date(Date.UTC(2026, 0, 1, 0, minute))

describe('tokens', () => {
  const fresh = { expiresAt: at(15), usedAt: null, publicKeySha256: null }
  const used = { expiresAt: at(15), usedAt: at(1), publicKeySha256: key(1) }

  test.each([
    ['unused, in time', fresh, key(1), at(15), 'fresh'],
    ['unused, too late', fresh, key(1), at(16), 'token_expired'],
    ['the same key in time', used, key(1), at(15), 'repeat'],
    ['another key in time', used, key(2), at(2), 'token_used'],
    ['the same key too late', used, key(1), at(16), 'token_used'],
  ] as const)('%s', (_, token, presented, now, expected) => {
    expect(judgeToken(token, presented, now)).toBe(expected)
  })
})

describe('renewals', () => {
  test('only the newest generation is given a next one, and only the lost reply is repeated', () => {
    const numbers = fc.record({
      current: fc.integer({ min: 1, max: 50 }),
      presented: fc.integer({ min: 1, max: 50 }),
      currentKey: fc.integer({ min: 0, max: 3 }),
      requestedKey: fc.integer({ min: 0, max: 3 }),
    })
    fc.assert(
      fc.property(numbers, ({ current, presented, currentKey, requestedKey }) => {
        const judged = judgeRenewal({ current, presented, currentKey: key(currentKey), requestedKey: key(requestedKey) })
        const same = currentKey === requestedKey
        if (presented === current) expect(judged).toBe(same ? 'reuse' : 'issue')
        else if (presented === current - 1 && same) expect(judged).toBe('repeat')
        else expect(judged).toBe('clone')
      }),
    )
  })
})
