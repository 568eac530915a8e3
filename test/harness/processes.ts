import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import path from 'node:path'
import { type PlainUser, plainUser } from './commands.ts'
import { waitFor } from './wait.ts'
import { watchdog } from './watchdog.ts'

export interface ProcessOptions {
  readonly cwd?: string
  /** The whole environment but PATH, LANG, TZ and TMPDIR. */
  readonly env?: Readonly<Record<string, string>>
  /** What `type` writes is its standard input; nothing unless told. */
  readonly typed?: boolean
  /** For servers that refuse root: `plain` is `nobody` when we are root. Ours unless told. */
  readonly as?: 'plain' | 'self' | PlainUser
  /** Looked at until it gives true; the process is then up. A process that ends before that is an error with its output. */
  readonly ready?: (process: StartedProcess) => boolean | Promise<boolean>
  /** 60 s unless told. */
  readonly readyMs?: number
  /** A program of Node's that is sent messages (structured clone). */
  readonly ipc?: boolean
  /** Of those that it sends, with `ipc`. */
  readonly onMessage?: (message: unknown) => void
}

export interface Ended {
  readonly status: number | null
  readonly signal: NodeJS.Signals | null
}

export interface StartedProcess extends AsyncDisposable {
  readonly pid: number
  /** What it wrote so far, the last 256 KiB of both streams together. */
  output(): string
  /** Standard output alone, the last 256 KiB. */
  stdout(): string
  readonly exited: Promise<Ended>
  /** Undefined while it runs. */
  readonly ended: Ended | undefined
  /** To its standard input, where that was asked for. */
  type(text: string): void
  /** A signal to it alone, for tests of what a kill does. */
  kill(signal: NodeJS.Signals): void
  /** With `ipc`; a process that has ended takes none. */
  send(message: object): void
  /** SIGTERM (or `signal`), SIGKILL to its whole process group after `graceMs` (10 s), and waits until it is gone. */
  stop(options?: { signal?: NodeJS.Signals; graceMs?: number }): Promise<Ended>
}

const KEPT_OUTPUT = 256 * 1024

/**
 * Starts a server in a process group of its own and waits until it is ready. End it with `stop()`, best in afterAll; the watchdog
 * ends it when this process is killed.
 */
export async function startProcess(
  command: string,
  args: readonly string[],
  options: ProcessOptions = {},
): Promise<StartedProcess> {
  const user = options.as === 'plain' ? plainUser() : options.as === 'self' ? undefined : options.as
  const base: Record<string, string> = { PATH: process.env.PATH ?? '/usr/bin:/bin', LANG: 'C.UTF-8', TZ: 'UTC' }
  if (process.env.TMPDIR) base.TMPDIR = process.env.TMPDIR
  const child = spawn(command, args, {
    cwd: options.cwd ?? '/',
    env: { ...base, ...options.env },
    detached: true,
    stdio: [options.typed ? 'pipe' : 'ignore', 'pipe', 'pipe', ...(options.ipc ? ['ipc' as const] : [])],
    serialization: 'advanced',
    ...user,
  })
  if (options.onMessage) child.on('message', options.onMessage)
  const exited = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (status, signal) => {
      started.ended = { status, signal }
      forget(child.pid)
      resolve(started.ended)
    })
  })
  const both = keptEnd()
  const out = keptEnd()
  child.stdout?.on('data', (piece: Buffer) => {
    both.add(piece)
    out.add(piece)
  })
  child.stderr?.on('data', both.add)
  const started = {
    pid: child.pid ?? 0,
    output: both.text,
    stdout: out.text,
    exited,
    ended: undefined as Ended | undefined,
    type: (text: string) => {
      child.stdin?.write(text)
    },
    kill: (signal: NodeJS.Signals) => {
      child.kill(signal)
    },
    send: (message: object) => {
      if (child.connected) child.send(message, () => undefined)
    },
    stop: async ({ signal = 'SIGTERM', graceMs = 10_000 }: { signal?: NodeJS.Signals; graceMs?: number } = {}) => {
      child.kill(signal)
      const timer = setTimeout(() => killGroup(child.pid), graceMs)
      try {
        return await exited
      } finally {
        clearTimeout(timer)
        killGroup(child.pid)
      }
    },
    [Symbol.asyncDispose]: async () => {
      await started.stop()
    },
  }
  if (child.pid === undefined) await exited
  remember(child.pid)
  if (options.ready) await untilReady(command, started, options.ready, options.readyMs ?? 60_000)
  return started
}

async function untilReady(
  command: string,
  started: StartedProcess,
  ready: (process: StartedProcess) => boolean | Promise<boolean>,
  timeoutMs: number,
): Promise<void> {
  try {
    await waitFor(`${command} to be ready`, async () => started.ended !== undefined || (await ready(started)), { timeoutMs })
  } catch (error) {
    await started.stop({ signal: 'SIGKILL' })
    throw new Error(`${command} did not become ready\n${started.output().slice(-4096)}`, { cause: error })
  }
  if (started.ended === undefined) return
  throw new Error(`${command} ended with ${started.ended.signal ?? started.ended.status}\n${started.output().slice(-4096)}`)
}

/** True once something accepts connections there. For `ready`. */
export function listens(port: number, host = '127.0.0.1'): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host })
    const answer = (value: boolean) => {
      socket.destroy()
      resolve(value)
    }
    socket.once('connect', () => answer(true))
    socket.once('error', () => answer(false))
    socket.setTimeout(1000, () => answer(false))
  })
}

/** Whether a process runs. One that ended and that nobody has waited for yet does not. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
  try {
    return !/^.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return process.platform !== 'linux' // no /proc there; on Linux it ended in between
  }
}

/** The whole group of a process that we started; what has gone already is no error. */
function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

function keptEnd(): { add: (piece: Buffer) => void; text: () => string } {
  let kept = Buffer.alloc(0)
  return {
    add: (piece) => {
      const all = Buffer.concat([kept, piece])
      kept = all.subarray(Math.max(0, all.length - KEPT_OUTPUT))
    },
    text: () => kept.toString(),
  }
}

// A suite that hangs is killed by the test run, which then ends the groups it finds noted here.
function noteOf(pid: number | undefined): string | undefined {
  const folder = process.env.HOLDFAST_TEST_PROCESSES
  return folder && pid !== undefined ? path.join(folder, String(pid)) : undefined
}

function remember(pid: number | undefined): void {
  if (pid !== undefined) watchdog.addGroup(pid)
  const note = noteOf(pid)
  if (note === undefined) return
  mkdirSync(path.dirname(note), { recursive: true })
  writeFileSync(note, '')
}

function forget(pid: number | undefined): void {
  if (pid !== undefined) watchdog.removeGroup(pid)
  const note = noteOf(pid)
  if (note !== undefined) rmSync(note, { force: true })
}
