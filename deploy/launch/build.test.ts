import { cp, mkdir, readdir, stat, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runCommand } from '../../test/harness/commands.ts'
import { type ThrowAwayFolder, throwAwayFolder } from '../../test/harness/folders.ts'
import { jobProgram } from './build.mjs'

const ROOT = path.resolve(import.meta.dirname, '../..')
const CHILD = `import { said }  from '../../shared/said.ts'
import { extname } from 'node:path'
const { later } = await import('./later.ts')
console.log(JSON.stringify({ said, later, place: import.meta.url, runs: extname(process.argv[1] ?? '') }))
`

let project: ThrowAwayFolder
const at = (...names: string[]) => path.join(project.path, ...names)
const made = () => jobProgram(project.path, process.execPath)
const run = async (program: string | null) => JSON.parse(await runCommand(process.execPath, [program ?? '']))

beforeEach(async () => {
  project = await throwAwayFolder()
  await cp(path.join(ROOT, 'deploy/build'), at('deploy/build'), { recursive: true })
  await symlink(path.join(ROOT, 'node_modules'), at('node_modules'))
  await mkdir(at('agent/jobs'), { recursive: true })
  await mkdir(at('shared'))
  await writeFile(at('package.json'), '{"type":"module"}')
  await writeFile(at('package-lock.json'), '{}')
  await writeFile(at('agent/jobs/child.ts'), CHILD)
  await writeFile(at('agent/jobs/later.ts'), 'export const later: string = "later"')
  await writeFile(at('shared/said.ts'), 'export const said: string = "one"')
})
afterEach(() => project.remove())

describe('the program of jobs is made of the sources as they stand', () => {
  it('does what the sources do, and knows itself where they lie', async () => {
    const place = pathToFileURL(at('agent/jobs/child.ts')).href
    const said = { said: 'one', later: 'later', place }
    expect(await run(at('agent/jobs/child.ts'))).toEqual({ ...said, runs: '.ts' })
    expect(await run(made())).toEqual({ ...said, runs: '.mjs' })
  })

  it('is made once, and again when a source, a package or the place has changed', async () => {
    const first = made()
    const { mtimeMs } = await stat(first ?? '')
    await writeFile(at('shared/said.test.ts'), 'export {}')
    expect(made()).toBe(first)
    expect((await stat(first ?? '')).mtimeMs).toBe(mtimeMs)

    await writeFile(at('shared/said.ts'), 'export const said: string = "two"')
    const second = made()
    expect(await run(second)).toMatchObject({ said: 'two' })
    // an agent that was started before has its own still
    expect(await run(first)).toMatchObject({ said: 'one' })
    await writeFile(at('package-lock.json'), '{ }')
    expect(new Set([first, second, made()]).size).toBe(3)

    await using copy = await throwAwayFolder()
    await cp(project.path, copy.path, { recursive: true, verbatimSymlinks: true })
    const place = pathToFileURL(path.join(copy.path, 'agent/jobs/child.ts')).href
    expect(await run(jobProgram(copy.path, process.execPath))).toMatchObject({ place })
  })

  it('the three that were made last are kept', async () => {
    const all: Array<string | null> = []
    for (const n of [1, 2, 3, 4]) {
      await writeFile(at('shared/said.ts'), `export const said = ${n}`)
      all.push(made())
    }
    const kept = await readdir(at('build'))
    expect(kept.sort()).toEqual(
      all
        .slice(1)
        .map((program) => path.relative(at('build'), program ?? '').split('/')[0])
        .sort(),
    )
  })

  it('where it cannot be made there is none, and nothing half', async () => {
    await writeFile(at('shared/said.ts'), 'export const = ')
    expect(made()).toBe(null)
    expect(await readdir(at('build'))).toEqual([])
    await writeFile(at('shared/said.ts'), 'export const said = "mended"')
    expect(await run(made())).toMatchObject({ said: 'mended' })

    const modes = [at('build'), path.dirname(path.dirname(path.dirname(made() ?? '')))].map(
      async (name) => (await stat(name)).mode & 0o777,
    )
    expect(await Promise.all(modes)).toEqual([0o755, 0o755])

    await using closed = await throwAwayFolder()
    await cp(project.path, closed.path, {
      recursive: true,
      verbatimSymlinks: true,
      filter: (name) => !name.endsWith('/build') || name.endsWith('deploy/build'),
    })
    await writeFile(path.join(closed.path, 'build'), 'a file where the folder would be')
    expect(jobProgram(closed.path, process.execPath)).toBe(null)
    expect(jobProgram(at('shared'), process.execPath)).toBe(null)
  })
})
