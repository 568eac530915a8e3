import type { Clock } from '../../shared/clock.ts'

/** What is saved up while nothing is sent. */
const BURST_MS = 250
/** Pieces of a body: larger ones save no time. */
const MOST = 256 * 1024

/** Lets bytes pass at a rate that may change at any time. */
export interface Pace {
  /** Null: nothing is ever held back. */
  readonly bytesPerSecond: number | null
  /** Resolves when so many bytes may pass. An abort ends it at once with the signal's reason. */
  take(bytes: number, signal: AbortSignal): Promise<void>
}

export const unlimited: Pace = { bytesPerSecond: null, take: async (_bytes, signal) => signal.throwIfAborted() }

/** A rate that everyone who takes from it shares, in the order they come (a token bucket). */
export class Throttle implements Pace {
  readonly #clock: Clock
  #bytesPerMs: number
  #tokens: number
  #atMs: number
  #changed = new AbortController()
  /** Settles when the one who came last has had its turn. */
  #last: Promise<void> = Promise.resolve()

  constructor(bytesPerSecond: number | null, clock: Clock) {
    this.#clock = clock
    this.#bytesPerMs = perMs(bytesPerSecond)
    this.#tokens = this.#bytesPerMs * BURST_MS
    this.#atMs = clock.monotonicMs()
  }

  get bytesPerSecond(): number | null {
    return Number.isFinite(this.#bytesPerMs) ? this.#bytesPerMs * 1000 : null
  }

  /** Holds at once, for those who wait as well. */
  set(bytesPerSecond: number | null): void {
    this.#refill()
    this.#bytesPerMs = perMs(bytesPerSecond)
    // what an old, higher rate left over is not to be sent at once
    this.#tokens = Math.min(this.#tokens, this.#bytesPerMs * BURST_MS)
    this.#changed.abort()
    this.#changed = new AbortController()
  }

  async take(bytes: number, signal: AbortSignal): Promise<void> {
    const before = this.#last
    const turn = Promise.withResolvers<void>()
    this.#last = before.then(() => turn.promise)
    try {
      await settled(before, signal)
      await this.#pay(bytes, signal)
    } finally {
      turn.resolve()
    }
  }

  async #pay(bytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    this.#refill()
    this.#tokens -= bytes
    while (this.#tokens < 0) {
      const changed = this.#changed.signal
      const waitMs = -this.#tokens / this.#bytesPerMs
      try {
        await this.#clock.sleep(waitMs, AbortSignal.any([signal, changed]))
      } catch (error) {
        if (signal.aborted || !changed.aborted) {
          this.#tokens += bytes
          throw error
        }
      }
      this.#refill()
    }
  }

  #refill(): void {
    const nowMs = this.#clock.monotonicMs()
    const most = this.#bytesPerMs * BURST_MS
    // zero times infinity would be no number
    this.#tokens =
      most === Number.POSITIVE_INFINITY ? most : Math.min(most, this.#tokens + (nowMs - this.#atMs) * this.#bytesPerMs)
    this.#atMs = nowMs
  }
}

const perMs = (bytesPerSecond: number | null): number => (bytesPerSecond ?? Number.POSITIVE_INFINITY) / 1000

/** As the promise, but that an abort ends the wait at once with its reason. */
export async function settled(promise: Promise<unknown>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  const aborted = Promise.withResolvers<never>()
  const onAbort = () => aborted.reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    await Promise.race([promise, aborted.promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/** The body in pieces that pass at the pace; small ones at a low rate, so that the line is never silent for long. */
export async function* paced(
  body: Buffer,
  pace: Pace,
  signal: AbortSignal,
  onPassed: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  for (let offset = 0; offset < body.length; ) {
    const part = body.subarray(offset, offset + pieceBytes(pace))
    await pace.take(part.length, signal)
    offset += part.length
    yield part
    onPassed(part.length)
  }
}

function pieceBytes({ bytesPerSecond }: Pace): number {
  return Math.max(1024, Math.min(MOST, Math.floor((bytesPerSecond ?? Number.POSITIVE_INFINITY) / 10)))
}
