import { getCompileCacheDir } from 'node:module'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { HoldfastError } from '../../../shared/errors.ts'
import type { RunningTool } from '../../process/tools.ts'
import type { Run } from '../engine.ts'
import type { SqliteConfig } from './config.ts'
import { sqliteError } from './errors.ts'
import { type Counted, type Pinned, type Reply, type Request, replySchema } from './messages.ts'

const PROGRAM = fileURLToPath(new URL('./child.ts', import.meta.url))

type Answers = { counted: Counted; pinned: Pinned; locked: true; released: true }
type ReplyKind = keyof Answers
type Answer<Kind extends ReplyKind> = Answers[Kind]

/** The child that speaks SQLite (child.ts). Ended with `end`, whatever became of it. */
export class Helper {
  readonly #tool: RunningTool
  readonly #lines: AsyncIterator<string>
  readonly #path: string

  constructor(run: Run, request: Request) {
    this.#path = request.path
    const compiled = getCompileCacheDir()
    const options = { signal: run.signal, graceMs: 1000, ...(compiled ? { env: { NODE_COMPILE_CACHE: compiled } } : {}) }
    this.#tool = run.tools.start(process.execPath, ['--no-warnings', PROGRAM], options)
    this.#lines = createInterface({ input: this.#tool.stdout })[Symbol.asyncIterator]()
    this.#tool.stdin.write(`${JSON.stringify(request)}\n`)
  }

  /** Throws what went wrong in it, or with it. */
  async #next(): Promise<Reply> {
    const { value, done } = await this.#lines.next()
    if (done) {
      await this.#tool.done
      throw new HoldfastError('tool_failed', `the helper for ${this.#path} ended early`, { hint: 'Run the job again.' })
    }
    const reply = replySchema.parse(JSON.parse(value))
    if ('failed' in reply) throw sqliteError(reply.failed.code, reply.failed.message, this.#path)
    return reply
  }

  get pid(): number {
    return this.#tool.pid
  }

  /** Counts in the snapshot that it holds. */
  async count(): Promise<Counted> {
    this.#tool.stdin.write('count\n')
    return this.#expect('counted')
  }

  async pinned(): Promise<Pinned> {
    return this.#expect('pinned')
  }

  async counted(): Promise<Counted> {
    return this.#expect('counted')
  }

  async locked(): Promise<void> {
    await this.#expect('locked')
  }

  /** Lets go of the snapshot. That it answers says that it held it until now. */
  async release(): Promise<void> {
    this.#tool.stdin.end('release\n')
    await this.#expect('released')
  }

  async #expect<Kind extends ReplyKind>(kind: Kind): Promise<Answer<Kind>> {
    const reply = await this.#next()
    if (kind in reply) return reply[kind as unknown as keyof Reply] as Answer<Kind>
    throw new HoldfastError('internal', `the helper for ${this.#path} answered out of turn`, { hint: 'Run the job again.' })
  }

  /** Ends it, and waits until it has gone. One that holds a lock has no word with SQLite any more (child.ts). */
  async end(): Promise<void> {
    await this.#tool.kill()
  }
}

/** Counts a database in a child. */
export async function countFile(
  path: string,
  config: Pick<SqliteConfig, 'integrity_check' | 'busy_timeout_ms'>,
  run: Run,
): Promise<Counted> {
  const helper = new Helper(run, { task: 'count', path, integrity: config.integrity_check, busyMs: config.busy_timeout_ms })
  try {
    return await helper.counted()
  } finally {
    await helper.end()
  }
}
