import type { Clock } from './clock.ts'

interface Sleeper {
  readonly due: number
  readonly resolve: () => void
}

/** A clock that moves only when told to. */
export class FakeClock implements Clock {
  #wallMs: number
  #monotonicMs = 0
  #sleepers: Sleeper[] = []

  constructor(start: Date | string = '2026-01-01T00:00:00Z') {
    this.#wallMs = new Date(start).getTime()
  }

  now(): Date {
    return new Date(this.#wallMs)
  }

  monotonicMs(): number {
    return this.#monotonicMs
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const sleeper: Sleeper = { due: this.#monotonicMs + ms, resolve }
      this.#sleepers.push(sleeper)
      signal?.addEventListener(
        'abort',
        () => {
          this.#sleepers = this.#sleepers.filter((other) => other !== sleeper)
          reject(signal.reason)
        },
        { once: true },
      )
    })
  }

  /** Moves both clocks on and wakes whoever is due, in order. */
  async advance(ms: number): Promise<void> {
    const end = this.#monotonicMs + ms
    for (;;) {
      const next = this.#sleepers.filter((s) => s.due <= end).sort((a, b) => a.due - b.due)[0]
      if (!next) break
      this.#sleepers = this.#sleepers.filter((s) => s !== next)
      this.#wallMs += next.due - this.#monotonicMs
      this.#monotonicMs = next.due
      next.resolve()
      await new Promise((resolve) => setImmediate(resolve))
    }
    this.#wallMs += end - this.#monotonicMs
    this.#monotonicMs = end
  }

  /** Moves wall time alone, as an administrator or NTP does. */
  setWall(to: Date | string): void {
    this.#wallMs = new Date(to).getTime()
  }

  get sleeping(): number {
    return this.#sleepers.length
  }
}
