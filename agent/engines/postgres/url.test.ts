import fc from 'fast-check'
import { expect, test } from 'vitest'
import { postgresConfig } from './config.ts'
import { formatConnectionUrl, parseConnectionUrl } from './url.ts'

test.each([
  ['postgres://backup@db1/app', { host: 'db1', user: 'backup', database: 'app' }],
  [
    'postgresql://u:p%40ss@h:6432/d?sslmode=verify-full&sslrootcert=/ca.pem',
    { host: 'h', port: 6432, user: 'u', password: 'p@ss', database: 'd', sslMode: 'verify-full', sslRootCert: '/ca.pem' },
  ],
  ['postgres://u@/d?host=/run/postgresql&port=5433', { host: '/run/postgresql', port: 5433, user: 'u', database: 'd' }],
  ['postgres://u@%2Frun%2Fpostgresql/d', { host: '/run/postgresql', user: 'u', database: 'd' }],
  ['postgres://[::1]:5432/d', { host: '::1', port: 5432, database: 'd' }],
  ['postgres:///', {}],
  ['postgres://h/a%22b%0A-%C3%A9%3D', { host: 'h', database: 'a"b\n-é=' }],
])('the address %s', (text, expected) => {
  const { ...parsed } = parseConnectionUrl(text)
  expect(JSON.parse(JSON.stringify(parsed))).toEqual(expected)
})

test.each([
  ['mysql://h/d', /form postgres/],
  ['postgres://a,b/d', /several hosts/],
  ['postgres://h:0/d', /port/],
  ['postgres://h:99999/d', /port/],
  ['postgres://h/d?options=-cfsync%3Doff', /parameter other than/],
  ['postgres://h/d?sslmode=maybe', /sslmode/],
  ['postgres://h/%zz', /percent/],
  ['postgres://h/a%00b', /NUL/],
])('%s is refused, without repeating it', (text, why) => {
  expect(() => parseConnectionUrl(text)).toThrow(why)
  expect(() => parseConnectionUrl(text)).not.toThrow(text)
})

test('any names of user and database come back from the address that is made of them', () => {
  const name = fc.string({ unit: 'binary', minLength: 1 }).filter((text) => !text.includes('\0') && text.isWellFormed())
  fc.assert(
    fc.property(name, name, fc.constantFrom('db.example', '::1', '/run/post gres'), (user, database, host) => {
      const made = formatConnectionUrl({ host, port: 5433, user, database })
      expect(parseConnectionUrl(made)).toMatchObject({ host, port: 5433, user, database })
    }),
  )
})

test('a password in url is refused, and not repeated; in a file it is not even seen', () => {
  const result = postgresConfig.safeParse({ url: 'postgres://u:hunter2@h/d' })
  expect(result.error?.issues[0]?.message).toMatch(/url_file/)
  expect(JSON.stringify(result.error)).not.toContain('hunter2')
  expect(postgresConfig.safeParse({ url_file: '/etc/url' }).success).toBe(true)
  expect(postgresConfig.safeParse({}).success).toBe(false)
  expect(postgresConfig.safeParse({ url: 'postgres://h/d', url_file: '/etc/url' }).success).toBe(false)
  expect(postgresConfig.safeParse({ url_file: 'relative' }).success).toBe(false)
  expect(JSON.stringify(postgresConfig.parse({ url: 'postgres://h/d', password: 'hunter2' }))).not.toContain('hunter2')
})
