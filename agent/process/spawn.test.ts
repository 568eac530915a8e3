import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Writable } from 'node:stream'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { isHoldfastError } from '../../shared/errors.ts'
import { createLogger } from '../../shared/log.ts'
import { createTools } from './spawn.ts'
import type { RunningTool, ToolOptions, Tools } from './tools.ts'

const node = process.execPath
let folder: string
let logged = ''
let tools: Tools
const never = new AbortController().signal

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'process-'))
  const destination = new Writable({
    write: (piece, _encoding, done) => {
      logged += piece
      done()
    },
  })
  tools = createTools({ path: `relative:${folder}:/usr/bin:/bin`, log: createLogger({ level: 'debug', destination }) })
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const script = (code: string, options: Partial<ToolOptions> = {}) => tools.run(node, ['-e', code], { signal: never, ...options })
const codeOf = async (promise: Promise<unknown>) => {
  const error = await promise.then(
    () => undefined,
    (reason) => reason,
  )
  return isHoldfastError(error) ? error.code : error
}
/** False for a dead process that nobody has reaped yet as well. */
const alive = (pid: number) => {
  const { stdout } = spawnSync('ps', ['-o', 'stat=', '-p', String(pid)])
  return /^[^Z\s]/.test(stdout.toString())
}

test('no shell: what a shell would run arrives as the text it is', async () => {
  const hostile = ['$(touch pwned)', '`id`', '; rm x', 'a\nb', '%s%n', '\'"', 'ünï', '*']
  const args = hostile.map((value) => ({ value }))
  const { stdout } = await tools.run(node, ['-e', 'console.log(JSON.stringify(process.argv.slice(1)))', '--', ...args], {
    signal: never,
    cwd: folder,
  })
  expect(JSON.parse(stdout.toString())).toEqual(hostile)
  expect(existsSync(path.join(folder, 'pwned'))).toBe(false)
})

test('a foreign value that begins with a hyphen, or holds a NUL, starts nothing', async () => {
  for (const value of ['-x', '--output=/etc/passwd', 'a\0b']) {
    expect(await codeOf((async () => tools.run(node, [{ value }], { signal: never }))())).toBe('invalid_name')
  }
  expect(await codeOf((async () => tools.run('node', [], { signal: never }))())).toBe('invalid_argument')
})

test('the environment is made from nothing', async () => {
  vi.stubEnv('HOLDFAST_TEST_LEAK', 'leak')
  const { stdout } = await script('console.log(JSON.stringify(process.env))', { env: { PGPASSWORD: 'hunter22' } })
  vi.unstubAllEnvs()
  expect(JSON.parse(stdout.toString())).toEqual({
    PATH: `${folder}:/usr/bin:/bin`,
    LANG: 'C.UTF-8',
    TZ: 'UTC',
    PGPASSWORD: 'hunter22',
    HOLDFAST_TOOL: expect.stringMatching(/^[0-9a-f-]{36}$/),
  })
})

test('tools stay in the process group of the job, and end with it when it is killed', async () => {
  const { stdout } = await tools.run('/bin/ps', ['-A', '-o', 'pid=,pgid=,comm='], { signal: never })
  const rows = stdout
    .toString()
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
  const group = (matches: (row: string[]) => boolean) => rows.filter(matches).map((row) => row[1])
  expect(group((row) => row[2] === 'ps')).toContain(group((row) => row[0] === String(process.pid))[0])
})

test('a failure carries the status and the last 4 KiB of standard error, without the secrets the tool was given', async () => {
  const code = 'process.stderr.write("x".repeat(9000) + " bad password hunter22"); process.exitCode = 3'
  const error = await script(code, { env: { PGPASSWORD: 'hunter22' } }).catch((reason) => reason)
  expect(error).toMatchObject({ code: 'tool_failed', context: { status: 3, killed_by: null } })
  expect(error.context.stderr).toHaveLength(4096 - 'hunter22'.length + '***'.length)
  expect(error.context.stderr).toMatch(/ bad password \*\*\*$/)
  expect(`${logged}${JSON.stringify(error)}`).not.toContain('hunter22')
  const nul = await (async () => script('', { env: { TOKEN: 'hunter22\0' } }))().catch((reason) => reason)
  expect(nul.code).toBe('invalid_argument')
  expect(`${nul.message}${nul.stack}`).not.toContain('hunter22')
})

test('an engine turns the failure into its own error', async () => {
  const mapError = recorder()
  await expect(script('process.exit(2)', { mapError: mapError.map })).rejects.toThrow('mine')
  expect(mapError.seen).toMatchObject([{ status: 2, killedBy: null, stderr: '' }])
})

function recorder() {
  const seen: unknown[] = []
  return { seen, map: (failure: unknown) => (seen.push(failure), new Error('mine')) }
}

test('abort: SIGTERM, after the grace SIGKILL, and all that it started is gone before it throws', async () => {
  const stop = new AbortController()
  const code = `
    process.on('SIGTERM', () => {})
    const child = require('node:child_process').spawn(process.execPath, ['-e', "process.on('SIGTERM', () => {}); console.log('up'); setInterval(() => {}, 1000)"], { stdio: ['ignore', 'pipe', 'inherit'] })
    child.stdout.once('data', () => process.stdout.write(process.pid + ' ' + child.pid + '\\n'))
    setInterval(() => {}, 1000)`
  const running = tools.start(node, ['-e', code], { signal: stop.signal, graceMs: 100 })
  const pids = await new Promise<number[]>((resolve) => {
    running.stdout.once('data', (line: Buffer) => resolve(line.toString().trim().split(' ').map(Number)))
  })
  expect(pids[0]).toBe(running.pid)
  expect(pids.every(alive)).toBe(true)
  const reason = new Error('cancelled')
  stop.abort(reason)
  await expect(running.done).rejects.toBe(reason)
  expect(pids.map(alive)).toEqual([false, false])
})

test('what a tool leaves running is ended with it', async () => {
  const code = `
    const child = require('node:child_process').spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'inherit' })
    process.stdout.write(String(child.pid), () => process.exit(0))`
  const { stdout } = await script(code)
  expect(alive(Number(stdout.toString()))).toBe(false)
})

test('an aborted signal starts nothing, and an unread output holds up no end', async () => {
  const stop = new AbortController()
  const running = tools.start(node, ['-e', 'process.stdout.write("x".repeat(1e6)); setInterval(() => {}, 1000)'], {
    signal: never,
  })
  await running.kill()
  await expect(running.done).rejects.toMatchObject({ code: 'tool_failed', context: { killed_by: 'SIGTERM' } })
  expect(alive(running.pid)).toBe(false)
  stop.abort(new Error('too late'))
  await expect((async () => script('', { signal: stop.signal }))()).rejects.toThrow('too late')
})

test('input arrives, and output beyond the limit ends the tool with too_large', async () => {
  const { stdout } = await script('process.stdin.pipe(process.stdout)', { input: Buffer.from('hello') })
  expect(stdout.toString()).toBe('hello')
  const flood = 'const f = () => process.stdout.write("x".repeat(65536), f); f()'
  expect(await codeOf(script(flood, { maxOutputBytes: 100_000 }))).toBe('too_large')
})

test('find: the given folders first, then the path, executables only; a missing tool is named', async () => {
  const tool = path.join(folder, 'sometool')
  await writeFile(tool, '#!/bin/sh\n')
  await expect(tools.find('sometool')).rejects.toMatchObject({
    code: 'tool_missing',
    message: 'sometool was not found on this host',
  })
  await chmod(tool, 0o755)
  expect(await tools.find('sometool')).toBe(tool)
  expect(await tools.find('true', ['/bin'])).toBe('/bin/true')
  for (const name of ['../sh', '-sh', 'a/b', '']) expect(await codeOf(tools.find(name))).toBe('invalid_name')
  expect(await codeOf((async () => tools.run(path.join(folder, 'absent'), [], { signal: never }))())).toBe('tool_missing')
})

test('a tool that is fed has all of its input, or says why not', async () => {
  const feed = (code: string, input: (tool: RunningTool) => AsyncIterable<Buffer>) => {
    const tool = tools.start(node, ['-e', code], { signal: never })
    tool.stdout.resume()
    return { tool, fed: tool.feed(input(tool)) }
  }
  const one = Buffer.from('a piece')
  const pieces = async function* () {
    yield one
  }
  const all = feed('process.stdin.resume()', pieces)
  expect(await all.fed).toBe(true)
  await all.tool.done

  // it goes away while more is waited for, and nothing is being written that could break
  const rest = (tool: RunningTool) =>
    (async function* () {
      yield one
      await tool.done.catch(() => undefined)
      yield one
    })()
  const leave = (status: number) => `process.stdin.once('data', () => process.exit(${status}))`
  expect(await codeOf(feed(leave(2), rest).fed)).toBe('tool_failed')
  expect(await feed(leave(0), rest).fed).toBe(false)

  // and while it is written to
  const endless = async function* () {
    for (;;) yield Buffer.alloc(65_536)
  }
  expect(await codeOf(feed(leave(2), endless).fed)).toBe('tool_failed')
  expect(await feed(leave(0), endless).fed).toBe(false)
})

test('a tool whose input fails is killed', async () => {
  const broken = new Error('the input broke')
  const tool = tools.start(node, ['-e', 'setInterval(() => {}, 1000)'], { signal: never })
  const fed = tool.feed(
    (async function* () {
      yield Buffer.from('a piece')
      throw broken
    })(),
  )
  await expect(fed).rejects.toBe(broken)
  expect(alive(tool.pid)).toBe(false)
})
