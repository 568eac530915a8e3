import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import pLimit from 'p-limit'
import type { Clock } from '../../shared/clock.ts'
import { asHoldfastError, HoldfastError } from '../../shared/errors.ts'
import type { Source } from '../../shared/generated/holdfast/agent/v1/session.ts'
import { createLogger, type Logger } from '../../shared/log.ts'
import type { SourceConfig } from '../config/sources.ts'
import type { Run } from '../engines/engine.ts'
import { engineFor } from '../engines/registry.ts'
import { createTools } from '../process/spawn.ts'

/** A store that does not answer must not keep the others from being told. */
const LIMIT_MS = 10_000
const AT_ONCE = 4
/** What was out of reach comes back, and sizes grow. */
const EVERY_MS = 5 * 60_000
/** What the control plane takes (fleet/hello.ts); a name of a database or a path may be longer, and hold anything. */
const MAX_FACTS = 50
const MAX_NAME = 100
const MAX_VALUE = 500

interface DescriberOptions {
  readonly clock: Clock
  readonly log: Logger
  readonly searchPath: string
  /** Those of agent.yaml as it is now. */
  sources(): Promise<readonly SourceConfig[]>
  /** The whole list, with what was found. It may be told twice. */
  tell(sources: Source[]): void
  /** After each look at the sources: what the agent then does is wait. */
  looked(): void
}

/** Facts of the sources for lists. The link never waits for them: it begins with what is known, and the rest follows. */
export class Describer {
  readonly #options: DescriberOptions
  readonly #stop = new AbortController()
  #facts = new Map<string, Record<string, string>>()
  #looking: Promise<void> = Promise.resolve()
  #waiting: Promise<void> = Promise.resolve()
  #again = false
  #idle = true

  constructor(options: DescriberOptions) {
    this.#options = options
  }

  /** Looks again now and then, until `close`. */
  start(): void {
    this.#waiting = this.#keepLooking()
  }

  /** With the facts that are known by now. */
  async sources(): Promise<Source[]> {
    return (await this.#options.sources()).map((source) => this.#described(source))
  }

  /** Looks at every source anew, in the background; while that goes on, once more after it. */
  refresh(): void {
    this.#again = true
    if (!this.#idle || this.#stop.signal.aborted) return
    this.#idle = false
    this.#looking = this.#look().finally(() => {
      this.#idle = true
    })
  }

  /** Does not wait for a store that hangs. */
  async close(): Promise<void> {
    this.#stop.abort(new HoldfastError('job_cancelled', 'the agent stops'))
    await Promise.all([this.#looking, this.#waiting])
  }

  async #keepLooking(): Promise<void> {
    const { clock } = this.#options
    while (!this.#stop.signal.aborted) {
      // ends early only when the agent stops
      await clock.sleep(EVERY_MS, this.#stop.signal).catch(() => undefined)
      this.refresh()
    }
  }

  async #look(): Promise<void> {
    const { log, tell, looked } = this.#options
    while (this.#again && !this.#stop.signal.aborted) {
      this.#again = false
      try {
        const sources = await this.#options.sources()
        const limit = pLimit(AT_ONCE)
        const found = await Promise.all(
          sources.map((source) => limit(async () => [source.name, await this.#factsOf(source)] as const)),
        )
        if (this.#stop.signal.aborted) return
        this.#facts = new Map(found)
        // as it is now: a source that was added meanwhile must not be taken for one that was removed
        tell(await this.sources())
        looked()
      } catch (error) {
        log.warn({ err: error }, 'the sources could not be described')
      }
    }
  }

  #described({ name, engine, labels }: SourceConfig): Source {
    return { name, engine, labels: { ...labels }, facts: this.#facts.get(name) ?? {} }
  }

  async #factsOf(source: SourceConfig): Promise<Record<string, string>> {
    const { clock, searchPath } = this.#options
    // what goes wrong is told as a fact; every few minutes a warning of the same would only bury others
    const log = createLogger({ level: 'error' })
    const scratch = await mkdtemp(path.join(tmpdir(), 'holdfast-describe-'))
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(LIMIT_MS)])
    const run: Run = {
      signal,
      log,
      clock,
      tools: createTools({ path: searchPath, log }),
      scratch,
      finding: () => undefined,
      progress: () => undefined,
      fenced: () => signal.throwIfAborted(),
    }
    try {
      return printable(await Promise.race([engineFor(source.engine).describe(source.config, run), aborted(signal)]))
    } catch (error) {
      if (signal.aborted) return { unreachable: `no answer within ${LIMIT_MS / 1000} s` }
      const { code, message } = asHoldfastError(error)
      return printable({ unreachable: `${code}: ${message}` })
    } finally {
      await rm(scratch, { recursive: true, force: true })
    }
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}

/** Control characters would have the whole list refused. */
function printable(facts: Readonly<Record<string, string>>): Record<string, string> {
  const line = (text: string, most: number) => text.replace(/\p{Cc}/gu, '\ufffd').slice(0, most)
  return Object.fromEntries(
    Object.entries(facts)
      .slice(0, MAX_FACTS)
      .map(([name, value]) => [line(name, MAX_NAME), line(value, MAX_VALUE)]),
  )
}
