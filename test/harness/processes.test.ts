import { existsSync, readdirSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, vi } from 'vitest'
import { endNoted } from '../run/end-processes.ts'
import { plainUser, runCommand, tryCommand } from './commands.ts'
import { throwAwayFolder } from './folders.ts'
import { freePort } from './ports.ts'
import { isRunning, listens, startProcess } from './processes.ts'
import { waitFor } from './wait.ts'

describe('startProcess', () => {
  it('waits until the server is ready and ends its whole process group', async () => {
    await using notes = await throwAwayFolder()
    vi.stubEnv('HOLDFAST_TEST_PROCESSES', notes.path)
    const port = await freePort()
    const grandchild = `require('node:child_process').spawn('sleep', ['600']).pid`
    const server = `console.log(${grandchild}); setTimeout(() => require('node:net').createServer().listen(${port}, '127.0.0.1'), 100)`
    const started = await startProcess(process.execPath, ['-e', server], { ready: () => listens(port) })
    const child = Number(started.stdout())
    expect(isRunning(child)).toBe(true)
    expect(readdirSync(notes.path)).toEqual([String(started.pid)])
    await started.stop()
    await waitFor('the grandchild to end', () => !isRunning(child))
    expect(await listens(port)).toBe(false)
    expect(readdirSync(notes.path)).toEqual([])
    vi.unstubAllEnvs()
  })

  it('is made up for when the suite is killed: its servers end, its folders go, and the run is told of it', async () => {
    await using notes = await throwAwayFolder()
    const harness = (name: string) => JSON.stringify(fileURLToPath(new URL(name, import.meta.url)))
    const suite = `
      const { throwAwayFolder } = await import(${harness('./folders.ts')})
      const { startProcess } = await import(${harness('./processes.ts')})
      const stopped = await startProcess('sleep', ['600'])
      await stopped.stop()
      const folder = await throwAwayFolder()
      const server = await startProcess('sleep', ['600'])
      console.log(JSON.stringify({ pid: server.pid, folder: folder.path }))
      setInterval(() => undefined, 1000)`
    const killed = await startProcess(process.execPath, ['--input-type=module', '-e', suite], {
      env: { HOLDFAST_TEST_PROCESSES: notes.path },
      ready: (at) => at.stdout().includes('}'),
    })
    const { pid, folder } = JSON.parse(killed.stdout()) as { pid: number; folder: string }
    expect([isRunning(pid), existsSync(folder)]).toEqual([true, true])
    killed.kill('SIGKILL')
    await waitFor('the server to end', () => !isRunning(pid))
    await waitFor('the folder to go', () => !existsSync(folder))
    expect(readdirSync(notes.path)).toEqual([`${pid}.left`])
    expect(await endNoted(notes.path)).toBe(1)
  })

  it('fails with the output of a server that ends instead of becoming ready', async () => {
    const started = startProcess('/bin/sh', ['-c', 'echo the disk is on fire; exit 3'], { ready: () => false })
    await expect(started).rejects.toThrow(/ended with 3\nthe disk is on fire/)
  })

  it('fails for a program that is not there', async () => {
    await expect(startProcess('/no/such/program', [])).rejects.toThrow('ENOENT')
  })

  it('runs as another user where a server refuses root', async () => {
    const user = plainUser()
    await using folder = await throwAwayFolder({ owner: user })
    const file = path.join(folder.path, 'id')
    const started = await startProcess('/bin/sh', ['-c', 'id -u > "$FILE"'], { as: 'plain', env: { FILE: file } })
    expect(await started.exited).toEqual({ status: 0, signal: null })
    expect(Number(await readFile(file, 'utf8'))).toBe(user?.uid ?? process.getuid?.())
  })
})

describe('commands, folders and waits', () => {
  it('gives standard output, or throws with standard error', async () => {
    expect(await runCommand('/bin/sh', ['-c', 'cat; exit 0'], { input: 'in' })).toBe('in')
    await expect(runCommand('/bin/sh', ['-c', 'echo why >&2; exit 4'])).rejects.toThrow(/exit status 4\nwhy/)
    expect(await tryCommand('/bin/sh', ['-c', 'exit 4'])).toMatchObject({ status: 4, signal: null })
  })

  it('removes a throw-away folder with what is in it', async () => {
    let at = ''
    {
      await using folder = await throwAwayFolder()
      at = folder.path
      await writeFile(path.join(at, 'file'), 'x')
    }
    await expect(readFile(path.join(at, 'file'))).rejects.toThrow('ENOENT')
  })

  it('waits for a state and names it when it does not come', async () => {
    let looks = 0
    const third = () => {
      looks += 1
      return looks < 3 ? null : looks
    }
    expect(await waitFor('the third look', third, { everyMs: 1 })).toBe(3)
    await expect(waitFor('rain', () => false, { timeoutMs: 20, everyMs: 1 })).rejects.toThrow('waited 0.02 s for rain')
  })
})
