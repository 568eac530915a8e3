import { expect, test } from 'vitest'
import { withoutEngine } from './restore.ts'

test('--config takes a source as agent.yaml holds it; one of another engine is refused', () => {
  const settings = { url: 'postgres://backup@localhost/app' }
  expect(withoutEngine({ engine: 'postgres', labels: { tier: 'gold' }, ...settings }, 'postgres')).toEqual(settings)
  expect(withoutEngine(settings, 'postgres')).toEqual(settings)
  expect(() => withoutEngine({ engine: 'sqlite', path: '/x.db' }, 'postgres')).toThrow(/source of engine sqlite/)
})
