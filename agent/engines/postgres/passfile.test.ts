import { expect, test } from 'vitest'
import { passwordFrom } from './passfile.ts'

const at = { host: 'db1', port: 5432, database: 'app', user: 'backup' }

test.each([
  ['db1:5432:app:backup:secret', 'secret'],
  ['# db1:5432:app:backup:no\n\n*:*:*:backup:yes', 'yes'],
  ['other:*:*:*:no\ndb1:*:*:*:yes\n*:*:*:*:later', 'yes'],
  ['db1:5432:app:backup:a\\:b\\\\c', 'a:b\\c'],
  ['db1:5432:app:backup:a:b', 'a:b'],
  ['db1:5433:app:backup:no', undefined],
  ['db1:5432:app:backup', undefined],
  ['', undefined],
])('the first line of a password file that fits: %j', (text, expected) => {
  expect(passwordFrom(text, at)?.reveal()).toBe(expected)
})

test('a socket is matched by its folder and as localhost', () => {
  const socket = { ...at, host: '/run/postgresql' }
  expect(passwordFrom('localhost:*:*:*:yes', socket)?.reveal()).toBe('yes')
  expect(passwordFrom('/run/postgresql:*:*:*:yes', socket)?.reveal()).toBe('yes')
  expect(passwordFrom('localhost:*:*:*:no', at)).toBeNull()
})
