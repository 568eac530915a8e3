import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { getPriority, setPriority } from 'node:os'
import path from 'node:path'
import { expect, test } from 'vitest'
import { throwAwayFolder } from '../../test/harness/folders.ts'
import { JOB_FLAGS, setNiceOfThreads, startJobProcess } from './job-process.ts'

test.runIf(process.platform === 'linux')(
  'threads that a process has made before its priority was set come to have it',
  async () => {
    const child = spawn(process.execPath, ['-e', 'setInterval(() => undefined, 1000); console.log("begun")'])
    try {
      await once(child.stdout, 'data')
      const pid = child.pid as number
      const nices = () => new Set(readdirSync(`/proc/${pid}/task`).map((thread) => getPriority(Number(thread))))
      const nice = Math.min(19, getPriority() + 5)
      setPriority(pid, nice)
      expect(nices().size).toBe(2)
      setNiceOfThreads(pid)
      expect([...nices()]).toEqual([nice])
    } finally {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    // of one that has gone there is nothing to set
    setNiceOfThreads(child.pid as number)
  },
)

test.runIf(process.platform === 'linux')(
  'the program that the launcher has made is run, and the sources where it has gone',
  async () => {
    await using folder = await throwAwayFolder()
    const program = path.join(folder.path, 'child.mjs')
    await writeFile(program, 'setInterval(() => undefined, 1000)')
    const environment = { searchPath: process.env.PATH ?? '', userHome: folder.path, compiled: folder.path, nice: 0 }
    const runs = async (given: string | undefined) => {
      const job = startJobProcess({ ...environment, program: given })
      // what it is told to run is there from the moment at which it has been started
      const command = readFileSync(`/proc/${job.pid}/cmdline`, 'utf8').split('\0')
      job.kill('SIGKILL')
      await job.gone
      return command.at(-2)
    }
    expect(await runs(program)).toBe(program)
    const source = path.resolve(import.meta.dirname, '../jobs/child.ts')
    expect(await runs(undefined)).toBe(source)
    expect(await runs(path.join(folder.path, 'gone.mjs'))).toBe(source)
  },
)

test('a job takes from the cache what V8 has compiled without its flags, as all of Node is', () => {
  const tagWith = (flags: readonly string[]) =>
    execFileSync(process.execPath, [...flags, '-p', "process.getBuiltinModule('node:v8').cachedDataVersionTag()"]).toString()
  expect(tagWith(JOB_FLAGS)).toBe(tagWith([]))
  expect(tagWith(['--expose-gc'])).not.toBe(tagWith([]))
})
