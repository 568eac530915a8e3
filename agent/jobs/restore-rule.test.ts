import { expect, it } from 'vitest'
import { requireAllowed } from './restore-rule.ts'

const host = { name: 'db2', labels: { 'restore-group': 'shop', env: 'prod' }, restoresFrom: ['legacy'] }
const from = (origin: string, originLabels: Record<string, string> = {}) => ({
  backup: { host: origin, source: 'app', id: '', manifestSha256: Buffer.alloc(0) },
  originLabels,
})

it.each([
  ['its own', host, from('db2')],
  ['those of a host with the same restore-group label', host, from('db1', { 'restore-group': 'shop' })],
  ['those of a host that its configuration names', host, from('legacy')],
  ["anybody's where its configuration says so", { ...host, restoresFrom: ['*'] }, from('db9')],
])('by its own rule a host takes backups: %s', (_, agent, work) => {
  expect(() => requireAllowed(agent, work)).not.toThrow()
})

it.each([
  ['another host', host, from('db1')],
  ['a host with another restore-group', host, from('db1', { 'restore-group': 'bank' })],
  ['a host with another label in common', host, from('db1', { env: 'prod' })],
  ['a host without the label, onto one without it', { ...host, labels: {} }, from('db1')],
])('by its own rule a host takes no backup of %s', (_, agent, work) => {
  expect(() => requireAllowed(agent, work)).toThrow(expect.objectContaining({ code: 'restore_not_allowed' }))
})
