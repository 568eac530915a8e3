import { chmod, cp, mkdir, readdir, readFile, rename, stat, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { tryCommand } from '../../test/harness/commands.ts'
import { type ThrowAwayFolder, throwAwayFolder } from '../../test/harness/folders.ts'
import { isRunning, startProcess } from '../../test/harness/processes.ts'
import { waitFor } from '../../test/harness/wait.ts'

const PROGRAM = `
import { appendFileSync } from 'node:fs'
const [what, log]: string[] = process.argv.slice(2)
if (what === 'args') console.log(JSON.stringify(process.argv.slice(2)))
if (what === 'env') console.log(process.env[log!])
if (what === 'flags') console.log(process.execArgv.join(' '))
if (what === 'exit') process.exit(7)
if (what === 'die') process.kill(process.pid, 'SIGTERM')
if (what === 'serve') {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => { appendFileSync(log!, signal + '\\n'); process.exit(5) })
  appendFileSync(log!, 'up ' + process.pid + '\\n')
  setInterval(() => {}, 1000)
}
`

let project: ThrowAwayFolder
const at = (...names: string[]) => path.join(project.path, ...names)
const launcher = (name: string) => at('deploy', 'launch', name)
/** As npm says what it runs. */
const NPX = { npm_command: 'exec' }

beforeEach(async () => {
  project = await throwAwayFolder()
  // nothing of these programs is to stay in the folder of who runs the tests
  vi.stubEnv('NODE_COMPILE_CACHE', at('cache'))
  await cp(import.meta.dirname, at('deploy', 'launch'), { recursive: true, filter: (file) => !file.endsWith('.test.ts') })
  for (const entry of ['control-plane/cli', 'deploy/quickstart', 'agent']) {
    await mkdir(at(entry), { recursive: true })
    await writeFile(at(entry, 'main.ts'), PROGRAM)
  }
  await writeFile(at('control-plane', 'main.ts'), 'console.log("server", process.argv.slice(2), process.execArgv.join(" "))')
  await writeFile(at('package.json'), '{"type":"module"}')
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await project.remove()
})

/** What the launchers make of a user's home. */
async function codeCache(home: string): Promise<string | null> {
  const program = `import(${JSON.stringify(launcher('runtime.mjs'))}).then((runtime) => console.log(JSON.stringify(runtime.codeCache(process.argv[1]))))`
  return JSON.parse((await tryCommand(process.execPath, ['-e', program, home])).stdout)
}

const log = () => readFile(at('log'), 'utf8').catch(() => '')
const isUp = async () => Number(/up (\d+)/.exec(await log())?.[1] ?? 0)
describe('the launchers', () => {
  it('pass the arguments and the exit status on', async () => {
    const odd = ['args', '--', '-x', 'a b', '$(id)', '"']
    const listed = await tryCommand(process.execPath, [launcher('holdfast.mjs'), ...odd])
    expect(JSON.parse(listed.stdout)).toEqual(odd)
    expect(await tryCommand(process.execPath, [launcher('holdfast-agent.mjs'), 'exit'])).toMatchObject({ status: 7 })
    expect(await tryCommand(process.execPath, [launcher('holdfast.mjs'), 'die'])).toMatchObject({ signal: 'SIGTERM' })
  })

  it('hand no program of jobs of another installation on', async () => {
    const env = { HOLDFAST_JOB_PROGRAM: '/elsewhere/child.mjs' }
    const { stdout } = await tryCommand(process.execPath, [launcher('holdfast-agent.mjs'), 'env', 'HOLDFAST_JOB_PROGRAM'], {
      env,
    })
    expect(stdout.trim()).toBe('undefined')
  })

  it('have the threads of a program share one pool of memory, unless they are told otherwise', async () => {
    const shown = (env: Record<string, string>) =>
      tryCommand(process.execPath, [launcher('holdfast-agent.mjs'), 'env', 'MALLOC_ARENA_MAX'], {
        env: { PATH: process.env.PATH ?? '', ...env },
        exactEnvironment: true,
      })
    expect(await shown({})).toMatchObject({ stdout: '1\n' })
    expect(await shown({ MALLOC_ARENA_MAX: '3' })).toMatchObject({ stdout: '3\n' })
  })

  it('give an agent and a server little room for young objects, which they would hold for ever', async () => {
    const { stdout } = await tryCommand(process.execPath, [launcher('holdfast-agent.mjs'), 'flags'])
    expect(stdout).toContain(' --max-semi-space-size=2')
    const server = await tryCommand(process.execPath, [launcher('holdfast.mjs'), 'server'])
    expect(server.stdout).toContain(' --max-semi-space-size=2')
  })

  it('have Node keep what it compiles of the product in a folder of its user, unless they are told where', async () => {
    const shown = async (name: string, env: Record<string, string>) =>
      (await tryCommand(process.execPath, [launcher(name), 'env', 'NODE_COMPILE_CACHE'], { env, exactEnvironment: true })).stdout
    expect(await shown('holdfast-agent.mjs', { NODE_COMPILE_CACHE: at('told') })).toBe(`${at('told')}\n`)
    const folder = await codeCache(at('home'))
    expect(folder).toBe(at('home', '.cache', 'holdfast'))
    expect((await stat(at('home', '.cache', 'holdfast'))).mode & 0o777).toBe(0o700)
    await chmod(at('home', '.cache', 'holdfast'), 0o770)
    expect(await codeCache(at('home'))).toBeNull()
    await chmod(at('home', '.cache', 'holdfast'), 0o700)
    await rename(at('home', '.cache', 'holdfast'), at('home', 'elsewhere'))
    await symlink(at('home', 'elsewhere'), at('home', '.cache', 'holdfast'))
    expect(await codeCache(at('home'))).toBeNull()
    await writeFile(at('no-folder'), '')
    expect(await codeCache(at('no-folder'))).toBeNull()
  })

  it('start the server program for holdfast server', async () => {
    const server = await tryCommand(process.execPath, [launcher('holdfast.mjs'), 'server', '--config', 'x'])
    expect(server.stdout).toContain("server [ '--config', 'x' ] ")
  })

  it.each(['SIGINT', 'SIGTERM'] as const)('hand %s to the program once and end as it ends', async (signal) => {
    const started = await startProcess(process.execPath, [launcher('start.mjs'), 'serve', at('log')], {
      env: { NODE_COMPILE_CACHE: at('cache') },
      ready: async () => (await isUp()) > 0,
    })
    const pid = await isUp()
    started.kill(signal)
    expect(await started.exited).toEqual({ status: 5, signal: null })
    expect(await log()).toBe(`up ${pid}\n${signal}\n`)
    expect(isRunning(pid)).toBe(false)
  })

  it('become the program where Node can, so that no process and no signal is between', async () => {
    const started = await startProcess(process.execPath, [launcher('holdfast-agent.mjs'), 'serve', at('log')], {
      env: { NODE_COMPILE_CACHE: at('cache') },
      ready: async () => (await isUp()) > 0,
    })
    expect(await isUp()).toBe(started.pid)
    started.kill('SIGTERM')
    expect(await started.exited).toEqual({ status: 5, signal: null })
    expect(await log()).toBe(`up ${started.pid}\nSIGTERM\n`)
  })

  it('leave no program behind when they are killed beside it', async () => {
    const started = await startProcess(process.execPath, [launcher('holdfast.mjs'), 'serve', at('log')], {
      env: { ...NPX, NODE_COMPILE_CACHE: at('cache') },
      ready: async () => (await isUp()) > 0,
    })
    const pid = await isUp()
    expect(pid).not.toBe(started.pid)
    started.kill('SIGKILL')
    await started.exited
    await waitFor('the program to end', () => !isRunning(pid))
    expect(await log()).toContain('SIGTERM')
  })

  it('below npx end the program when npx ends without a word to it', async () => {
    const agent = JSON.stringify([launcher('holdfast-agent.mjs'), 'serve', at('log')])
    const parent = `require('node:child_process').spawn(process.execPath, ${agent}, { detached: true, stdio: 'ignore' })`
    const started = await startProcess(process.execPath, ['-e', parent], {
      env: { ...NPX, NODE_COMPILE_CACHE: at('cache') },
      ready: async () => (await isUp()) > 0,
    })
    const pid = await isUp()
    started.kill('SIGTERM')
    await started.exited
    await waitFor('the program to end', () => !isRunning(pid))
    expect(await log()).toContain('SIGTERM')
  })

  it('npm start ends when what started it is killed', async () => {
    const parent = `require('node:child_process').spawn(process.execPath, ${JSON.stringify([launcher('start.mjs'), 'serve', at('log')])}, { detached: true, stdio: 'ignore' })`
    const started = await startProcess(process.execPath, ['-e', parent], {
      env: { NODE_COMPILE_CACHE: at('cache') },
      ready: async () => (await isUp()) > 0,
    })
    const pid = await isUp()
    started.kill('SIGKILL')
    await started.exited
    await waitFor('the program to end', () => !isRunning(pid))
  })
})

const MACHINE = { os: [process.platform], cpu: [process.arch] }
const LOCK = {
  packages: {
    '': {},
    'node_modules/needed': { version: '1.0.0', integrity: 'sha512-a' },
    'node_modules/for-this-machine': { version: '1.0.0', integrity: 'sha512-b', optional: true, ...MACHINE },
    'node_modules/for-another': { version: '1.0.0', integrity: 'sha512-c', optional: true, os: ['aix'], cpu: ['ppc64'] },
  },
}

/** Stands for npm: `npm ci` fills node_modules as the lock file says, slowly, and notes that it ran. */
const NPM = `
const fs = require('node:fs'), path = require('node:path')
fs.appendFileSync(process.env.LOG, process.argv.slice(2).join(' ') + '\\n')
const { packages } = JSON.parse(fs.readFileSync('package-lock.json'))
console.log('noise of npm')
for (const name of Object.keys(packages)) if (name.includes('another') || name === process.env.DROPPED) delete packages[name]
for (const name of Object.keys(packages)) if (name !== '') fs.mkdirSync(name, { recursive: true })
if (process.env.HANGS) { fs.appendFileSync(process.env.LOG, 'hangs\\n'); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0) }
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200)
fs.writeFileSync('node_modules/.package-lock.json', JSON.stringify({ packages }))
`

describe('installation', () => {
  beforeEach(async () => {
    await writeFile(at('package-lock.json'), JSON.stringify(LOCK))
    await mkdir(at('npm'))
    await writeFile(at('npm', 'npm-cli.js'), NPM)
    await writeFile(at('npm', 'package.json'), '{}')
  })
  const run = (env: Record<string, string> = {}) =>
    tryCommand(process.execPath, [launcher('holdfast.mjs'), 'args'], {
      env: { npm_execpath: at('npm', 'npm-cli.js'), LOG: at('log'), ...env },
    })
  const runs = async () => (await log()).split('\n').filter((line) => line.startsWith('ci ')).length

  it('happens once, without noise on standard output, and again when the lock file changes', async () => {
    expect((await run()).stdout).toBe('["args"]\n')
    expect((await run()).stderr).toBe('')
    expect(await runs()).toBe(1)
    LOCK.packages['node_modules/needed'].version = '1.0.1'
    await writeFile(at('package-lock.json'), JSON.stringify(LOCK))
    expect((await run()).status).toBe(0)
    expect(await runs()).toBe(2)
  })

  it('runs no program of a package', async () => {
    await run()
    expect(await log()).toContain('--ignore-scripts')
  })

  it('survives two at the same time', async () => {
    const both = await Promise.all([run(), run(), run()])
    expect(both.map((one) => [one.status, one.stdout])).toEqual(Array(3).fill([0, '["args"]\n']))
  })

  it('is not believed when it was killed half-way', async () => {
    const env = { npm_execpath: at('npm', 'npm-cli.js'), LOG: at('log'), HANGS: '1' }
    const hanging = await startProcess(process.execPath, [launcher('holdfast.mjs'), 'args'], {
      env,
      ready: async () => (await log()).includes('hangs'),
    })
    await hanging.stop({ signal: 'SIGKILL' })
    expect((await run()).stdout).toBe('["args"]\n')
    expect((await readdir(project.path)).filter((name) => name.startsWith('.install-'))).toEqual([])
  })

  it('fails when npm left out the package made for this machine', async () => {
    const failed = await run({ DROPPED: 'node_modules/for-this-machine' })
    expect(failed).toMatchObject({ status: 1, stdout: '' })
    expect(failed.stderr).toContain('npm left out node_modules/for-this-machine')
  })

  it('leaves a linked node_modules alone', async () => {
    await mkdir(at('elsewhere'))
    await symlink(at('elsewhere'), at('node_modules'))
    expect((await run()).stdout).toBe('["args"]\n')
    expect(await runs()).toBe(0)
  })
})
