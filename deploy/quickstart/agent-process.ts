import { type ChildProcess, spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'

const PROGRAM = fileURLToPath(new URL('../../agent/main.ts', import.meta.url))
const LEASH = new URL('../launch/leash.mjs', import.meta.url).href
/** An agent ends within a second; jobs that are at work are given up in order. */
const STOP_MS = 15_000

/** The quickstart's agent: the same program as on any host, in a folder of its own. Nothing of it outlives `stop`, or this process. */
export class AgentProcess {
  readonly #home: string
  readonly #environment: NodeJS.ProcessEnv
  readonly #alive = new Map<ChildProcess, Promise<void>>()
  #stopped = false
  #gone: Promise<void> = Promise.resolve()

  constructor(home: string, environment: NodeJS.ProcessEnv) {
    this.#home = home
    this.#environment = environment
  }

  /** One command of the agent's program, to its end; what it prints on standard output. Secrets go by standard input. */
  async command(args: readonly string[], input = ''): Promise<string> {
    const child = this.#spawn(args, ['pipe', 'pipe', 'pipe'])
    let stdout = ''
    let stderr = ''
    child.stdout?.on('data', (piece: Buffer) => {
      stdout += piece.toString()
    })
    child.stderr?.on('data', (piece: Buffer) => {
      stderr += piece.toString()
    })
    child.stdin?.end(input)
    const status = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', resolve)
    })
    if (status === 0) return stdout
    throw new HoldfastError('internal', `the agent's command ${args[0]} failed: ${stderr.trim()}`)
  }

  /** Its log goes to agent.log beside its folder. */
  start(): void {
    const child = this.#spawn(['run'], ['ignore', 'ignore', 'pipe'])
    const log = createWriteStream(path.join(path.dirname(this.#home), 'agent.log'), { flags: 'a', mode: 0o600 })
    child.stderr?.pipe(log)
    this.#gone = this.#alive.get(child) ?? Promise.resolve()
  }

  /** Rejects when the agent ends by itself. */
  async failed(): Promise<never> {
    await this.#gone
    throw new HoldfastError('agent_crashed', 'the agent ended by itself', {
      hint: `Look at ${path.join(path.dirname(this.#home), 'agent.log')}.`,
    })
  }

  /** Ends the agent and every command of it that still runs; none is started any more. */
  async stop(): Promise<void> {
    this.#stopped = true
    const given = new AbortController()
    const late = systemClock.sleep(STOP_MS, given.signal).then(
      () => this.#signal('SIGKILL'),
      () => undefined,
    )
    this.#signal('SIGTERM')
    await Promise.all(this.#alive.values())
    given.abort()
    await late
  }

  #signal(signal: NodeJS.Signals): void {
    for (const child of this.#alive.keys()) child.kill(signal)
  }

  #spawn(args: readonly string[], stdio: ('ignore' | 'pipe')[]): ChildProcess {
    // whoever goes on with the tour after the stop must not leave an agent behind
    if (this.#stopped) throw new HoldfastError('job_cancelled', 'stopped')
    const all = ['--disable-warning=ExperimentalWarning', '--import', LEASH, PROGRAM, '--home', this.#home, ...args]
    // A group of its own: Ctrl-C reaches the quickstart alone, which stops the agent in order. On the leash of the fourth stream it
    // ends with the quickstart even when that is killed.
    const child = spawn(process.execPath, all, {
      stdio: [...stdio, 'pipe'],
      detached: true,
      env: { ...this.#environment, HOLDFAST_LEASH: '3' },
    })
    const gone = new Promise<void>((resolve) => {
      child.once('close', () => resolve())
      child.once('error', () => resolve())
    })
    this.#alive.set(
      child,
      gone.finally(() => this.#alive.delete(child)),
    )
    return child
  }
}
