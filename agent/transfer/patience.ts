import { backoffMs } from '../../shared/backoff.ts'
import type { Clock } from '../../shared/clock.ts'
import { HoldfastError, isHoldfastError } from '../../shared/errors.ts'
import type { Logger } from '../../shared/log.ts'
import { failure, type Meaning } from './answers.ts'

const FIRST_WAIT_MS = 200
const MAX_WAIT_MS = 30_000
/** In a row: what these say does not get better by waiting, only perhaps by a new address or another try. */
const LIMITS: Partial<Record<Meaning, number>> = { 'new-address': 5, taken: 8, mangled: 4 }

/** How one object's transfer goes on after a failure: waits, or throws when it is no use. One for each object. */
export class Patience {
  readonly #what: string
  readonly #options: { readonly clock: Clock; readonly log: Logger; readonly patienceMs: number }
  readonly #counts = new Map<Meaning, number>()
  /** Thrown here, and caught by the loop that asks: it must not be taken for one more failure that may pass. */
  #givenUp: HoldfastError | null = null
  #failedSinceMs: number | null = null
  #retries = 0

  constructor(what: string, options: { clock: Clock; log: Logger; patienceMs: number }) {
    this.#what = what
    this.#options = options
  }

  get retries(): number {
    return this.#retries
  }

  /** After an answer that is not `done`. */
  async afterAnswer(meaning: Exclude<Meaning, 'done'>, status: number, code: string, signal: AbortSignal): Promise<void> {
    const error = failure(meaning, this.#what, status, code)
    if (!['taken', 'new-address', 'mangled', 'again'].includes(meaning)) throw this.#giveUp(error)
    const count = (this.#counts.get(meaning) ?? 0) + 1
    this.#counts.set(meaning, count)
    if (count >= (LIMITS[meaning] ?? Number.POSITIVE_INFINITY)) throw this.#giveUp(error)
    // the first new address or look at a taken name needs no wait
    if (count === 1 && (meaning === 'taken' || meaning === 'new-address')) return this.#count(error)
    await this.#wait(error, signal)
  }

  /** After a connection that broke, or a control plane that could not sign now. Anything else is thrown as it is. */
  async afterError(error: unknown, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (error === this.#givenUp) throw error
    // a renewed certificate: the next address names the new one
    if (isHoldfastError(error, 'pin_mismatch')) return this.#wait(error, signal)
    if (isHoldfastError(error)) {
      if (!error.retry) throw error
      return this.#wait(error, signal)
    }
    const reason = error instanceof Error && 'code' in error ? String(error.code) : 'no answer'
    const unreachable = new HoldfastError('target_unreachable', `${this.#what}: the connection failed (${reason})`, {
      hint: 'Look at the network between this host and the store, and at firewalls and proxies on the way.',
      context: { reason },
    })
    await this.#wait(unreachable, signal)
  }

  async #wait(error: HoldfastError, signal: AbortSignal): Promise<void> {
    const { clock, patienceMs } = this.#options
    const nowMs = clock.monotonicMs()
    this.#failedSinceMs ??= nowMs
    if (nowMs - this.#failedSinceMs >= patienceMs) throw this.#giveUp(error)
    this.#count(error)
    await clock.sleep(backoffMs(this.#retries, FIRST_WAIT_MS, MAX_WAIT_MS), signal)
  }

  #giveUp(error: HoldfastError): HoldfastError {
    this.#givenUp = error
    return error
  }

  #count(error: HoldfastError): void {
    this.#retries++
    this.#options.log.info({ code: error.code, reason: error.message, retry: this.#retries }, 'transfer is tried again')
  }
}
