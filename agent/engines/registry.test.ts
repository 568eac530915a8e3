import { expect, test } from 'vitest'
import { runCommand } from '../../test/harness/commands.ts'
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

const WHAT_IS_LOADED = `
  import { registerHooks } from 'node:module'
  const loaded = []
  registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) })
  const { engineFor } = await import(process.argv[1])
  engineFor('files').config.parse({ path: '/' })
  console.log(JSON.stringify(loaded))
`

test('an engine that has nothing to do is not loaded, only what it is known by', async () => {
  const registry = new URL('./registry.ts', import.meta.url).href
  const said = await runCommand(process.execPath, ['--input-type=module', '--eval', WHAT_IS_LOADED, registry])
  const loaded = JSON.parse(said) as string[]
  expect(loaded).toContain(registry)
  expect(loaded.filter((url) => /\/work\.ts$|koffi|node:sqlite|\/agent\/process\//.test(url))).toEqual([])
})
