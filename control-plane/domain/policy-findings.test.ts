import { expect, test } from 'vitest'
import { policySchema } from './policy.ts'
import { policyFindings } from './policy-findings.ts'

const source = (name: string, labels: Record<string, string> = {}) => ({ host: 'db1', name, engine: 'postgres', labels })
const policy = (more: object) => policySchema.parse({ targets: ['primary'], ...more })

test('that a policy leaves the fleet’s recipient out, and what that costs, is said when it is made', () => {
  const found = policyFindings({ hr: policy({ recipients: 'recovery' }), other: policy({}) }, [])
  expect(found).toHaveLength(1)
  expect(found[0]).toMatchObject({ code: 'sealed_to_recovery', severity: 'warning', subject: 'hr' })
  expect(found[0]?.message).toContain('neither verified nor test-restored on a schedule')
  expect(found[0]?.hint).toContain('holdfast unlock')
  expect(policyFindings({ other: policy({}) }, [])).toEqual([])
})

test('another policy of the same source is named: the strictest holds', () => {
  const policies = {
    all: policy({}),
    hr: policy({ recipients: 'recovery', select: { labels: { of: 'hr' } } }),
    apart: policy({ select: { sources: ['db2/*'] } }),
  }
  const found = policyFindings(policies, [source('pay', { of: 'hr' }), source('staff', { of: 'hr' }), source('app')])
  expect(found.slice(1)).toMatchObject([{ code: 'recipients_overruled', subject: 'all' }])
  expect(found[1]?.message).toContain('db1/pay and 1 more')
})
