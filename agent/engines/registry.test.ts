import { expect, test } from 'vitest'
import { fakeEngine } from './fake/fake.ts'
import { engineFor, engineKinds, registerEngine } from './registry.ts'

test('an unknown kind is not_supported, and the error lists what is', () => {
  expect(() => engineFor('nonsense')).toThrow(
    expect.objectContaining({ code: 'not_supported', hint: `Use one of: ${engineKinds().join(', ')}.` }),
  )
})

test('every kind is found under its name; the fake one is there only once a test has registered it', () => {
  for (const kind of engineKinds()) expect(engineFor(kind).kind).toBe(kind)
  expect(engineKinds()).not.toContain('fake')
  registerEngine(fakeEngine)
  expect(engineFor('fake')).toBe(fakeEngine)
  expect(() => registerEngine(fakeEngine)).toThrow(expect.objectContaining({ code: 'already_exists' }))
})
