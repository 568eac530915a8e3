import { expect, test } from 'vitest'
import { postgresConfig } from './config.ts'

test('one folder of client tools needs no list', () => {
  const url = 'postgres://backup@localhost/app'
  expect(postgresConfig.parse({ url, tools: '/opt/pg/bin' }).tools).toEqual(['/opt/pg/bin'])
  expect(postgresConfig.parse({ url, tools: ['/a', '/b'] }).tools).toEqual(['/a', '/b'])
  expect(postgresConfig.safeParse({ url, tools: 'bin' }).success).toBe(false)
})

test('parallel_workers of older files is parallel, which stands alone in what is compiled; both at once are refused', () => {
  const parse = (more: object) => postgresConfig.parse({ url: 'postgres://backup@localhost/app', ...more })
  expect(parse({ parallel_workers: 4 })).toEqual(parse({ parallel: 4 }))
  expect(parse({ parallel_workers: 4 }).parallel).toBe(4)
  expect(parse({}).parallel).toBe(2)
  expect(() => parse({ parallel: 4, parallel_workers: 4 })).toThrow('older spelling of parallel')
  expect(() => parse({ parallel_workers: 33 })).toThrow('parallel_workers')
})
