import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { CliDeps } from './deps.ts'
import { agentProgram } from './program.ts'

let home: string
beforeEach(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'hf-source-'))
})
afterEach(() => rm(home, { recursive: true, force: true }))

/** What went to standard error. */
let said: string[] = []
beforeEach(() => {
  said = []
})

const run = (words: string[], input = '', environment = {}) => {
  const printError = (line: string) => void said.push(line)
  const io = { print: () => undefined, printError, readStdin: async () => input, environment }
  const deps = { home: () => ({ config: home, state: home }), stop: new AbortController().signal, ...io }
  return agentProgram(deps as unknown as CliDeps).parseAsync(['source', ...words], { from: 'user' })
}
const add = ['add', 'app', '--engine', 'postgres', '--url-file', '-']
const kept = () => path.join(home, 'secrets', 'app.url')

test('a source that is refused leaves the connection of the one that is there as it was', async () => {
  await run(add, 'postgres://one:secret@127.0.0.1:1/app')
  await expect(run(add, 'postgres://two:secret@127.0.0.1:1/app')).rejects.toMatchObject({ code: 'already_exists' })
  expect(await readFile(kept(), 'utf8')).toContain('//one:')
  await run([...add, '--replace'], 'postgres://two:secret@127.0.0.1:1/app')
  expect(await readFile(kept(), 'utf8')).toContain('//two:')
})

test('a source with a setting that is not known leaves no connection behind', async () => {
  await expect(run([...add, '--option', 'nonsense=1'], 'postgres://one:secret@127.0.0.1:1/app')).rejects.toThrow(/nonsense/)
  expect(existsSync(kept())).toBe(false)
})

test('the connection that was kept here goes with its source', async () => {
  await run(add, 'postgres://one:secret@127.0.0.1:1/app')
  await run(['remove', 'app'])
  expect(existsSync(kept())).toBe(false)
})

test('a connection of the environment is kept like one that is typed, and only where no other was given', async () => {
  const environment = { HOLDFAST_SOURCE_URL: 'postgres://three:secret@127.0.0.1:1/app' }
  await run(['add', 'app', '--engine', 'postgres'], '', environment)
  expect(await readFile(kept(), 'utf8')).toBe('postgres://three:secret@127.0.0.1:1/app\n')
  expect(await readFile(path.join(home, 'agent.yaml'), 'utf8')).not.toContain('secret@')
  await run(['add', 'etc', '--engine', 'files', '--path', home], '', environment)
  await run(['add', 'other', '--engine', 'postgres', '--url', 'postgres://backup@127.0.0.1:1/x'], '', environment)
  expect(await readdir(path.join(home, 'secrets'))).toEqual(['app.url'])
})

test('a setting that is missing is named as that', async () => {
  const error = { code: 'invalid_config', message: 'source etc: path is missing', hint: expect.stringContaining('--path') }
  await expect(run(['add', 'etc', '--engine', 'files'])).rejects.toMatchObject(error)
})

test('an agent.yaml that is no YAML is refused with the place, and nothing of what stands there', async () => {
  const file = path.join(home, 'agent.yaml')
  await writeFile(file, 'sources:\n  app: { engine: postgres, password: hunter2: x }\n')
  const message = expect.stringMatching(/agent\.yaml is not valid YAML: line 2, column \d+: (?!.*hunter2)[^\n]+$/)
  await expect(run(['list'])).rejects.toMatchObject({ code: 'invalid_config', message })
  await expect(run(['add', 'etc', '--engine', 'files', '--path', home])).rejects.toMatchObject({ message })
  expect(await readFile(file, 'utf8')).toContain('hunter2')
})

test('a source that cannot be backed up as it is is added with a warning that says why, one that can without', async () => {
  const missing = path.join(home, 'not-there')
  await run(['add', 'etc', '--engine', 'files', '--path', missing])
  expect(said).toEqual([
    `warning: it cannot be backed up as it is: source_missing: ${missing}: no such file or folder`,
    '  Check the path in the configuration of the source.',
  ])
  expect(await readFile(path.join(home, 'agent.yaml'), 'utf8')).toContain(missing)
  said = []
  await run(['add', 'here', '--engine', 'files', '--path', home])
  expect(said).toEqual([])
  await run(['add', 'notes', '--engine', 'sqlite', '--path', missing])
  expect(said[0]).toContain(`source_missing: ${missing} does not exist`)
  said = []
  await run(['add', 'app', '--engine', 'postgres', '--url', 'postgres://backup@127.0.0.1:1/app'])
  expect(said[0]).toMatch(/^warning: it cannot be backed up as it is: (?!internal)\w+: /)
})
