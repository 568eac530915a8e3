import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import path from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { HoldfastError } from '../../shared/errors.ts'
import { withoutSecrets } from './arguments.ts'
import { FAMILY_VARIABLE, Family } from './family.ts'
import type { RunningTool, ToolFailure, ToolOptions } from './tools.ts'

/** How much of standard error is kept: the end, where tools say what went wrong. */
export const STDERR_TAIL_BYTES = 4096
const GRACE_MS = 5000

interface Exit {
  readonly status: number | null
  readonly killedBy: NodeJS.Signals | null
}

export interface Running extends RunningTool {
  /** Last 4 KiB of standard error, without secrets; complete once `done` has settled. */
  stderr(): string
}

/**
 * Starts a child and follows it to its end. `args` and `env` are final (arguments.ts).
 * Standard output has to be read to its end, or the child killed: `done` waits for it.
 */
export function launch(tool: string, args: string[], env: Record<string, string>, options: ToolOptions): Running {
  options.signal.throwIfAborted()
  if (!path.isAbsolute(tool)) {
    throw new HoldfastError('invalid_argument', `tool ${JSON.stringify(tool)} is not an absolute path`, {
      hint: 'Look the tool up first: what the search path names may change between two calls.',
    })
  }
  const name = randomUUID()
  const child = spawn(tool, args, {
    env: { ...env, [FAMILY_VARIABLE]: name },
    cwd: options.cwd ?? '/',
    shell: false,
    stdio: 'pipe',
    windowsHide: true,
  })
  const exited = new Promise<Exit>((resolve, reject) => {
    child.once('error', (error) => reject(startFailure(tool, error)))
    child.once('exit', (status, killedBy) => resolve({ status, killedBy }))
  })
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const tail = keepTail(child)
  // a child that goes away early shows as EPIPE here; its exit status says why, and readers get `done`
  child.stdin.on('error', () => undefined)
  child.stdout.on('error', () => undefined)
  const stderr = () => withoutSecrets(tail(), options.env)
  const family = new Family(child, name, exited)
  const ended = follow(family, exited, closed)
  const stop = async (reason?: unknown) => {
    await family.end(options.graceMs ?? GRACE_MS)
    child.stdout.destroy(reason instanceof Error ? reason : undefined)
  }
  const done = settle(tool, ended, stop, stderr, options)
  // a caller may look at `done` only after it has read everything; until then a failure is no unhandled one
  done.catch(() => undefined)
  const kill = async () => {
    await stop()
    await ended.catch(() => undefined)
  }
  return {
    pid: child.pid ?? -1,
    stdin: child.stdin as Writable,
    stdout: child.stdout as Readable,
    done,
    stderr,
    feed: (input) => feed(input, child.stdin, done, kill),
    kill,
  }
}

/** That a tool goes away shows as a broken pipe, or, while the input is waited for, as one closed too early: `done` knows why. */
async function feed(
  input: AsyncIterable<Buffer>,
  stdin: Writable,
  done: Promise<void>,
  kill: () => Promise<void>,
): Promise<boolean> {
  let own: { readonly error: unknown } | undefined
  const told = async function* () {
    try {
      yield* input
    } catch (error) {
      own = { error }
      throw error
    }
  }
  try {
    await pipeline(told, stdin)
    return true
  } catch {
    if (!own) {
      await done
      return false
    }
    await kill()
    throw own.error
  }
}

async function follow(family: Family, exited: Promise<Exit>, closed: Promise<void>): Promise<Exit> {
  const exit = await exited
  // what the tool left behind would go on with our data, and hold our pipes open
  await family.endRest()
  await closed
  return exit
}

async function settle(
  tool: string,
  ended: Promise<Exit>,
  stop: (reason: unknown) => Promise<void>,
  stderr: () => string,
  options: ToolOptions,
): Promise<void> {
  let stopping: Promise<void> | undefined
  const onAbort = () => {
    stopping = stop(options.signal.reason)
  }
  options.signal.addEventListener('abort', onAbort, { once: true })
  try {
    const exit = await ended
    await stopping
    if (stopping) throw options.signal.reason
    if (exit.status !== 0) throw failure({ tool: path.basename(tool), ...exit, stderr: stderr() }, options)
  } finally {
    options.signal.removeEventListener('abort', onAbort)
  }
}

function keepTail(child: ChildProcess): () => string {
  let tail = Buffer.alloc(0)
  child.stderr?.on('data', (piece: Buffer) => {
    const whole = Buffer.concat([tail, piece])
    tail = whole.subarray(Math.max(0, whole.length - STDERR_TAIL_BYTES))
  })
  return () => tail.toString('utf8')
}

function startFailure(tool: string, error: NodeJS.ErrnoException): HoldfastError {
  const missing = error.code === 'ENOENT' || error.code === 'EACCES'
  return new HoldfastError(missing ? 'tool_missing' : 'tool_failed', `${path.basename(tool)} could not be started`, {
    hint: `Check that ${tool} exists and that the agent's user may execute it.`,
    context: { tool, code: error.code },
  })
}

function failure(failed: ToolFailure, options: ToolOptions): Error {
  if (options.mapError) return options.mapError(failed)
  const how = failed.killedBy ? `was ended by ${failed.killedBy}` : `ended with status ${failed.status}`
  return new HoldfastError('tool_failed', `${failed.tool} ${how}`, {
    hint: 'Its last words are in the context; run the job again once their cause is mended.',
    context: { tool: failed.tool, status: failed.status, killed_by: failed.killedBy, stderr: failed.stderr },
  })
}
