import { spawn } from 'node:child_process'
import { endTree } from './end-processes.ts'
import type { RunContext } from './step.ts'

export interface Bounded {
  readonly status: number | null
  readonly timedOut: boolean
  readonly output: string
}

export interface BoundedOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  readonly limitMs: number
  /** Aborted: its limit is over already. */
  readonly over?: AbortSignal
  /** Show its output as it comes; otherwise it is only kept (the last 64 KiB). */
  readonly show?: boolean
}

const KEPT = 64 * 1024

/** Runs a command on our Node's PATH to its end, or to its limit, at which it is ended with all that it started. */
export function runBounded(
  context: RunContext,
  command: string,
  args: readonly string[],
  options: BoundedOptions,
): Promise<Bounded> {
  return new Promise((resolve, reject) => {
    if (context.signal.aborted) return reject(context.signal.reason)
    // A process group of its own: Ctrl-C on the terminal reaches us alone, and we end everything.
    const child = spawn(command, args, {
      cwd: options.cwd ?? context.root,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    let output = ''
    let timedOut = false
    const end = () => {
      if (child.pid !== undefined) endTree(child.pid).catch(reject)
    }
    const timeOut = () => {
      timedOut = true
      end()
    }
    const timer = setTimeout(timeOut, options.limitMs)
    options.over?.addEventListener('abort', timeOut, { once: true })
    context.signal.addEventListener('abort', end, { once: true })
    const take = (stream: NodeJS.WriteStream) => (piece: Buffer) => {
      if (options.show && !context.quiet) stream.write(piece)
      output = (output + piece.toString()).slice(-KEPT)
    }
    child.stdout.on('data', take(process.stdout))
    child.stderr.on('data', take(process.stderr))
    child.once('error', reject)
    // `exit`, not `close`: a server that a suite left running holds our pipes open.
    child.once('exit', (status) => {
      clearTimeout(timer)
      options.over?.removeEventListener('abort', timeOut)
      context.signal.removeEventListener('abort', end)
      setImmediate(() => {
        child.stdout.destroy()
        child.stderr.destroy()
        if (context.signal.aborted) reject(context.signal.reason)
        else resolve({ status, timedOut, output })
      })
    })
  })
}
