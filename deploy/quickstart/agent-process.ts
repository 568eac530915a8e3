import { type ChildProcess, spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { HoldfastError } from '../../shared/errors.ts'

const PROGRAM = fileURLToPath(new URL('../../agent/main.ts', import.meta.url))

/** The quickstart's agent: the same program as on any host, in a folder of its own. */
export class AgentProcess {
  readonly #home: string
  readonly #environment: NodeJS.ProcessEnv
  #running: ChildProcess | null = null
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
    this.#running = child
    this.#gone = new Promise((resolve) => child.once('close', () => resolve()))
  }

  /** Rejects when the agent ends by itself. */
  async failed(): Promise<never> {
    await this.#gone
    throw new HoldfastError('agent_crashed', 'the agent ended by itself', {
      hint: `Look at ${path.join(path.dirname(this.#home), 'agent.log')}.`,
    })
  }

  async stop(): Promise<void> {
    this.#running?.kill('SIGTERM')
    await this.#gone
  }

  #spawn(args: readonly string[], stdio: ('ignore' | 'pipe')[]): ChildProcess {
    const all = ['--disable-warning=ExperimentalWarning', PROGRAM, '--home', this.#home, ...args]
    // a group of its own: Ctrl-C reaches the quickstart alone, which stops the agent in order
    return spawn(process.execPath, all, { stdio, detached: true, env: this.#environment })
  }
}
