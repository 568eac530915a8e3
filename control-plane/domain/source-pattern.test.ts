import fc from 'fast-check'
import { expect, test } from 'vitest'
import { selects } from './source-pattern.ts'

test('no pattern selects every source', () => {
  expect(selects([], 'db1/app')).toBe(true)
})

test('a star stands for any run of characters but "/"', () => {
  expect(selects(['db1/*'], 'db1/app')).toBe(true)
  expect(selects(['*/app'], 'db1/app')).toBe(true)
  expect(selects(['db*/a*p'], 'db12/app')).toBe(true)
  expect(selects(['db1/*'], 'db10/app')).toBe(false)
  expect(selects(['*p'], 'db1/app')).toBe(false)
  expect(selects(['db1*app'], 'db1/app')).toBe(false)
  expect(selects(['db1/app'], 'db1/app2')).toBe(false)
  expect(selects(['x/*', '*/b'], 'a/b')).toBe(true)
})

test('patterns agree with the regular expression they stand for', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 10 })
  const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '/', '*'), maxLength: 8 })
  fc.assert(
    fc.property(pattern, text, (p, s) => {
      const expression = new RegExp(`^${p.replaceAll('*', '[^/]*')}$`)
      expect(selects([p], s)).toBe(expression.test(s))
    }),
    { numRuns: 2000 },
  )
})
