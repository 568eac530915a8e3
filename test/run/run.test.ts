import { existsSync } from 'node:fs'
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type ThrowAwayFolder, throwAwayFolder } from '../harness/folders.ts'
import { isRunning, startProcess } from '../harness/processes.ts'
import { waitFor } from '../harness/wait.ts'
import { CAMPAIGNS, readArguments } from './arguments.ts'
import { runBounded } from './bounded.ts'
import { endNoted, endTree } from './end-processes.ts'
import { lockTrouble } from './lock-file.ts'
import { report } from './report.ts'
import { count, limitOf, runSuite, SUITES } from './suites.ts'

const ROOT = path.resolve(import.meta.dirname, '../..')

let folder: ThrowAwayFolder
beforeEach(async () => {
  folder = await throwAwayFolder()
})
afterEach(() => folder.remove())

/** A project of its own with the run's reporter and one suite file. It has nearly as long as a test has; `over` ends it sooner. */
async function runAlone(suite: string, over?: AbortSignal) {
  const root = path.join(folder.path, 'project')
  await mkdir(path.join(root, 'test'), { recursive: true })
  await symlink(path.join(ROOT, 'node_modules'), path.join(root, 'node_modules'))
  for (const name of ['run', 'harness'])
    await cp(path.join(ROOT, 'test', name), path.join(root, 'test', name), { recursive: true })
  await writeFile(path.join(root, 'package.json'), '{"type":"module"}')
  const config = "export default { test: { projects: [{ test: { name: 'unit', include: ['a.test.ts'], pool: 'forks' } }] } }"
  await writeFile(path.join(root, 'vitest.config.ts'), config)
  await writeFile(
    path.join(root, 'a.test.ts'),
    `import { it } from 'vitest'\nimport { startProcess } from './test/harness/processes.ts'\n${suite}`,
  )
  const context = {
    root,
    node: process.execPath,
    folder: path.join(folder.path, 'run'),
    signal: new AbortController().signal,
    quiet: true,
  }
  return runSuite('unit', context, { filters: [], partsFile: path.join(folder.path, 'parts'), limitMs: 50_000, over })
}

describe('a suite', () => {
  it('is counted test by test, with the reasons of what was skipped', async () => {
    const tests =
      "it('a', () => {}); it('b', () => { throw new Error('x') }); it('c', (test) => test.skip('no server')); it.skip('d', () => {})"
    expect(await runAlone(tests)).toMatchObject({
      passed: 1,
      failed: 1,
      skipped: 2,
      skippedTests: [
        { file: 'a.test.ts', test: 'c', why: 'no server' },
        { file: 'a.test.ts', test: 'd', why: undefined },
      ],
      failedTests: [{ file: 'a.test.ts', test: 'b', why: 'x' }],
    })
  })

  it('that cannot be loaded is a failure', async () => {
    const outcome = await runAlone("throw new Error('broken import')")
    expect(outcome).toMatchObject({ passed: 0, failed: 1 })
    expect(outcome.trouble).toContain('broken import')
  })

  it('that has no tests is a failure', async () => {
    expect((await runAlone('')).failed).toBeGreaterThan(0)
  })

  it('that hangs is ended with the servers that it started', async () => {
    const noted = path.join(folder.path, 'pid')
    const notes = path.join(folder.path, 'run', 'unit', 'notes')
    const hang = `import { writeFileSync } from 'node:fs'
      it('hangs', async () => {
        const server = await startProcess('/bin/sleep', ['600'])
        writeFileSync(${JSON.stringify(noted)}, String(server.pid))
        for (;;) {}
      })`
    const over = new AbortController()
    const run = runAlone(hang, over.signal)
    const server = await waitFor('the suite to hang', async () => Number(await readFile(noted, 'utf8')) || null)
    await waitFor('its beginning to be noted', async () => (await readFile(notes, 'utf8')).includes('"begin"'))
    over.abort()
    const outcome = await run
    expect(outcome.failed).toBeGreaterThan(0)
    expect(outcome.trouble).toContain('files that had not ended: a.test.ts')
    await waitFor('the server to end', () => !isRunning(server))
  })

  it('is ended when its limit is over', async () => {
    const context = { root: folder.path, node: process.execPath, folder: folder.path, signal: new AbortController().signal }
    expect(await runBounded(context, '/bin/sleep', ['600'], { limitMs: 1 })).toMatchObject({ status: null, timedOut: true })
  })

  it('whose process died is counted up to there and fails', () => {
    const notes = ['{"note":"begin","file":"a"}', '{"note":"test","file":"a","test":"t","state":"passed"}', '']
    expect(count(notes.join('\n'))).toMatchObject({ passed: 1, failed: 0, running: ['a'] })
  })
})

describe('processes', () => {
  it('are ended with their descendants', async () => {
    const started = await startProcess('/bin/sh', ['-c', 'sleep 600 & echo $!; wait'], {
      ready: (at) => at.stdout().includes('\n'),
    })
    const child = Number(started.stdout())
    await endTree(started.pid)
    expect((await started.exited).signal).toBe('SIGKILL')
    expect(await endNoted(path.join(folder.path, 'nothing'))).toBe(0)
    await waitFor('the child to end', () => !isRunning(child))
  })
})

describe('the report', () => {
  const outcome = { name: 'types', passed: 1, failed: 0, skipped: 0, seconds: 1 }
  it('ends with exactly the line that scripts read', () => {
    const suite = {
      name: 'unit',
      passed: 10,
      failed: 2,
      skipped: 3,
      seconds: 1,
      skippedTests: [{ file: 'a.test.ts', test: 'c', why: 'no server' }],
      failedTests: [{ file: 'b.test.ts', test: 'group > b', why: `expected 1\nto be 2${'.'.repeat(3000)}` }],
      said: ['60 of 60 seeds'],
    }
    const parts = [
      { part: 'versitygw', used: true },
      { part: 'mongod', used: false, reason: 'no such package\nand more' },
    ]
    const text = report([outcome], [suite], parts)
    expect(text.split('\n').at(-1)).toBe('11 passed, 2 failed, 3 skipped')
    expect(text).toContain(
      '  versitygw\nNot used:\n  mongod: no such package\nSkipped tests:\n  a.test.ts: 1 (no server)\n60 of 60 seeds\n',
    )
    expect(text).toMatch(/\nFailed tests:\n {2}b\.test\.ts: group > b\n {4}expected 1\n {4}to be 2\.+ \.\.\.\nTime:/)
    expect(text.length).toBeLessThan(2500)
  })
})

describe('arguments', () => {
  it('run everything, named parts, or the files that match', () => {
    const all = Object.keys(SUITES)
    expect(readArguments([])).toMatchObject({ staticSteps: true, suites: all, filters: [], seeds: undefined })
    expect(readArguments(['static'])).toMatchObject({ staticSteps: true, suites: [] })
    expect(readArguments(['unit', 'agent/link'])).toMatchObject({ staticSteps: false, suites: ['unit'], filters: ['agent/link'] })
    expect(readArguments(['agent/link'])).toMatchObject({ staticSteps: false, suites: all, filters: ['agent/link'] })
    const seeded = ['test/fault/seeds.test.ts']
    expect(readArguments(['faults', '--seeds', '1..60'])).toMatchObject({ suites: ['faults'], seeds: '1..60', filters: seeded })
    expect(readArguments(['--seeds', '17'])).toMatchObject({ staticSteps: false, seeds: '17', filters: seeded })
    expect(() => readArguments(['--seeds', '9..3'])).toThrow('names no seeds')
    expect(() => readArguments(['--fast'])).toThrow('unknown option --fast')
    expect(() => readArguments(['--seeds', 'x'])).toThrow('names no seeds')
    const dataPath = { filters: ['test/fault/data-path/data-path.test.ts'], campaign: 'data-path' }
    expect(readArguments(['faults', '--campaign', 'data-path', '--seeds', '9'])).toMatchObject({ ...dataPath, seeds: '9' })
    expect(readArguments(['faults', '--campaign', 'data-path'])).toMatchObject({
      ...dataPath,
      staticSteps: false,
      seeds: undefined,
    })
    expect(() => readArguments(['--campaign', 'others'])).toThrow('there are whole-system and data-path')
  })

  it('lead to files that are there', () => {
    for (const { file } of Object.values(CAMPAIGNS)) expect(existsSync(path.join(ROOT, file))).toBe(true)
  })
})

it('a project has longer for more seeds than those of every run', () => {
  expect(limitOf('faults', undefined)).toBe(SUITES.faults?.limitMs)
  expect(limitOf('faults', '1..60')).toBe(SUITES.faults?.limitMs)
  expect(limitOf('faults', '1..2000')).toBe(2000 * 20_000)
  expect(limitOf('faults', '1..1999,7')).toBe(2000 * 20_000)
})

describe('the lock file', () => {
  const write = (packages: object) => writeFile(path.join(folder.path, 'package-lock.json'), JSON.stringify({ packages }))
  const good = { version: '1.0.0', license: 'MIT', integrity: 'sha512-x' }

  it('has every package for every kind of machine, with checksum and judged licence', async () => {
    await write({ '': {}, 'node_modules/a': { ...good, optionalDependencies: { b: '1' } }, 'node_modules/b': good })
    expect(await lockTrouble(folder.path)).toBeNull()
    await write({ '': {}, 'node_modules/a': { ...good, optionalDependencies: { b: '1' } } })
    expect(await lockTrouble(folder.path)).toContain('node_modules/a wants b')
    await write({ '': {}, 'node_modules/a': { ...good, license: 'GPL-3.0-only' } })
    expect(await lockTrouble(folder.path)).toContain('GPL-3.0-only was not judged')
    await write({ '': {}, 'node_modules/a': { ...good, integrity: undefined } })
    expect(await lockTrouble(folder.path)).toContain('no checksum')
  })
})
