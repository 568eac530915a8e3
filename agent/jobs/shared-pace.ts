import { type Pace, settled } from '../transfer/throttle.ts'

/** Asked for at once: so many a second that the asking costs nothing, so few that no job holds much which others wait for. */
const SHARES_PER_SECOND = 20

/** A job's share of a rate that the agent keeps for all its jobs. */
export class SharedPace implements Pace {
  readonly #ask: (bytes: number) => Promise<unknown>
  #bytesPerSecond: number | null
  /** Granted and not yet used. */
  #granted = 0
  #asking: Promise<void> | undefined

  constructor(bytesPerSecond: number | null, ask: (bytes: number) => Promise<unknown>) {
    this.#bytesPerSecond = bytesPerSecond
    this.#ask = ask
  }

  get bytesPerSecond(): number | null {
    return this.#bytesPerSecond
  }

  set(bytesPerSecond: number | null): void {
    this.#bytesPerSecond = bytesPerSecond
    this.#granted = Math.min(this.#granted, (bytesPerSecond ?? 0) / SHARES_PER_SECOND)
  }

  async take(bytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    while (this.#bytesPerSecond !== null && this.#granted < bytes) {
      this.#asking ??= this.#askFor(Math.max(bytes, Math.round(this.#bytesPerSecond / SHARES_PER_SECOND)))
      await settled(this.#asking, signal)
    }
    this.#granted = Math.max(0, this.#granted - bytes)
  }

  async #askFor(bytes: number): Promise<void> {
    try {
      await this.#ask(bytes)
      this.#granted += bytes
    } finally {
      this.#asking = undefined
    }
  }
}
