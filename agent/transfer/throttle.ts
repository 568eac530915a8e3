import type { Clock } from '../../shared/clock.ts'

/** What is saved up while nothing is sent. */
const BURST_MS = 250
/** Pieces of a body: larger ones save no time. */
const MOST = 256 * 1024

/** A rate that everyone who takes from it shares, in the order they come. */
export class Throttle {
  readonly #bytesPerMs: number
  readonly #clock: Clock
  #freeAtMs = Number.NEGATIVE_INFINITY

  /** Without a rate nothing is ever held back. */
  constructor(bytesPerSecond: number | undefined, clock: Clock) {
    this.#bytesPerMs = (bytesPerSecond ?? Number.POSITIVE_INFINITY) / 1000
    this.#clock = clock
  }

  /** Resolves when so many bytes may pass. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    const nowMs = this.#clock.monotonicMs()
    this.#freeAtMs = Math.max(this.#freeAtMs, nowMs - BURST_MS) + bytes / this.#bytesPerMs
    const waitMs = this.#freeAtMs - nowMs
    if (waitMs > 0) await this.#clock.sleep(waitMs, signal)
  }

  /** The body in pieces that pass at the rate; small ones at a low rate, so that the line is never silent for long. */
  async *pass(body: Buffer, signal: AbortSignal, onPassed: (bytes: number) => void): AsyncGenerator<Buffer> {
    const piece = Math.max(1024, Math.min(MOST, Math.floor(this.#bytesPerMs * 100)))
    for (let offset = 0; offset < body.length; offset += piece) {
      const part = body.subarray(offset, offset + piece)
      await this.take(part.length, signal)
      yield part
      onPassed(part.length)
    }
  }
}
