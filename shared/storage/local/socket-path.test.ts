import { expect, test } from 'vitest'
import { isSocketName, isSocketPath, newSocketName } from './socket-path.ts'

const NAME = 'holdfast-0123456789abcdefghjkmnpqrs.sock'

test('a name is random, and nobody can guess another', () => {
  const names = new Set(Array.from({ length: 1000 }, newSocketName))
  expect(names.size).toBe(1000)
  expect([...names].every(isSocketName)).toBe(true)
})

test.each([`/${NAME}`, `/var/lib/holdfast/${NAME}`, `/${'x'.repeat(107 - NAME.length - 2)}/${NAME}`])('%s can be one', (at) => {
  expect(isSocketPath(at)).toBe(true)
})

test.each([
  '',
  '/run/docker.sock',
  `/run/docker.sock/../${NAME}`,
  `/run//${NAME}`,
  NAME,
  `./${NAME}`,
  `/run/${NAME}/`,
  `/run/x${NAME}`,
  `/run/${NAME}x`,
  `/run/${NAME}\n`,
  `/run/${NAME.replace('0', 'u')}`,
  `/${'x'.repeat(107 - NAME.length - 1)}/${NAME}`,
])('%j is never connected to', (at) => {
  expect(isSocketPath(at)).toBe(false)
})
