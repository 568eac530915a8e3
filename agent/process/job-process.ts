import { fork } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'
import { fileURLToPath } from 'node:url'

/** A child process of our own program, for one job. */
export interface JobProcess {
  readonly pid: number
  send(message: unknown): void
  onMessage(listener: (message: unknown) => void): void
  /** Settles when the process has gone, with how it ended. */
  readonly gone: Promise<{ status: number | null; killedBy: NodeJS.Signals | null }>
  kill(signal: NodeJS.Signals): void
}

export interface JobEnvironment {
  readonly searchPath: string
  readonly userHome: string
  /** A folder that only the agent can write: Node runs what it finds there for code of ours. */
  readonly compiled: string
  /** The job's program in a few files, where the launcher has made it. */
  readonly program: string | undefined
  /** Of its process. What it starts has the same. */
  readonly nice: number
}

/**
 * Young objects of a job are few and small, and bytes lie outside of V8's heap: room for more would only be memory that is held. One thread compiles and collects beside the main one: the
 * four of Node's default, with so little to do, take a twentieth of a short job's time from it. With most flags of V8's own a start takes longer (shared/v8-flags.mjs).
 */
export const JOB_FLAGS: readonly string[] = [
  '--disable-warning=ExperimentalWarning',
  '--max-semi-space-size=2',
  '--v8-pool-size=1',
]

/** Node takes the types out. */
const SOURCE = fileURLToPath(new URL('../jobs/child.ts', import.meta.url))

/** Of glibc, besides: with a pool of memory for each thread, what one has given back is of no use to another, 30 to 50 MB of it. */
export const JOB_ENVIRONMENT = { MALLOC_ARENA_MAX: '1' } as const

/**
 * Starts the job's program with a nearly empty environment and a process group of its own, so that the tools that it starts can
 * be ended with it even when it was killed.
 */
export function startJobProcess(environment: JobEnvironment): JobProcess {
  const child = fork(programOf(environment), [], {
    serialization: 'advanced',
    detached: true,
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    execArgv: [...JOB_FLAGS],
    env: {
      ...JOB_ENVIRONMENT,
      PATH: environment.searchPath,
      HOME: environment.userHome,
      LANG: 'C.UTF-8',
      TZ: 'UTC',
      NODE_COMPILE_CACHE: environment.compiled,
    },
  })
  const pid = child.pid
  const gone = new Promise<{ status: number | null; killedBy: NodeJS.Signals | null }>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (status, killedBy) => resolve({ status, killedBy }))
  })
  if (pid !== undefined) {
    setNice(pid, environment.nice)
    child.once('message', () => setNiceOfThreads(pid))
  }
  return {
    pid: pid ?? -1,
    // a message to a process that has just gone is of no interest to anyone: `gone` tells
    send: (message) => void (child.connected && child.send(message as never, () => undefined)),
    onMessage: (listener) => void child.on('message', listener),
    gone,
    kill: (signal) => {
      if (pid !== undefined) endGroup(pid, signal)
    },
  }
}

/** An installation that is renewed under a running agent may have taken it away. */
const programOf = ({ program }: JobEnvironment): string => (program && existsSync(program) ? program : SOURCE)

/** The job's process leads its own group; a group that is already gone is what was wanted. */
function endGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** At once, before it has begun: its threads are made with what it has then. On Linux the call reaches one thread. */
function setNice(id: number, nice: number): void {
  try {
    setPriority(id, nice)
  } catch (error) {
    if (!passes(error)) throw error
  }
}

/**
 * All threads have what the first one has. On a busy machine a process may have been faster than `setNice`, and have threads that were made with its parent's priority. Once it has something to
 * say it has made those of its start, and what the first one makes later is like it.
 */
export function setNiceOfThreads(pid: number): void {
  if (process.platform !== 'linux') return
  try {
    const nice = getPriority(pid)
    for (const thread of readdirSync(`/proc/${pid}/task`)) setNice(Number(thread), nice)
  } catch (error) {
    if (!passes(error)) throw error
  }
}

/** Gone already, or the host forbids it: the job runs all the same. Node names what the system said under `info` where it is about priorities. */
function passes(error: unknown): boolean {
  const { code, info } = error as { code?: string; info?: { code?: string } }
  return ['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(info?.code ?? code ?? '')
}
