import { expect, test } from 'vitest'
import { postgresConfig } from './config.ts'

test('one folder of client tools needs no list', () => {
  const url = 'postgres://backup@localhost/app'
  expect(postgresConfig.parse({ url, tools: '/opt/pg/bin' }).tools).toEqual(['/opt/pg/bin'])
  expect(postgresConfig.parse({ url, tools: ['/a', '/b'] }).tools).toEqual(['/a', '/b'])
  expect(postgresConfig.safeParse({ url, tools: 'bin' }).success).toBe(false)
})
