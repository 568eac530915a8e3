import { type Clock, systemClock } from '../../shared/clock.ts'

interface Sleeper {
  /** Of wall time as this clock has it. */
  readonly until: number
  wake(): void
}

/**
 * A control plane's clock whose wall time a test moves, so that waits of a quarter of a minute and more cost nothing: leases, retry times and
 * schedules go by it. Time goes on by itself; durations are the machine's own, but that a sleep ends when a move passes its end, so that what
 * looks now and then looks at once.
 */
export class ShiftedClock implements Clock {
  readonly #sleepers = new Set<Sleeper>()
  readonly #listeners = new Set<(shiftMs: number) => void>()
  #shiftMs = 0

  get shiftMs(): number {
    return this.#shiftMs
  }

  set shiftMs(ms: number) {
    this.#shiftMs = ms
    const now = this.now().getTime()
    for (const sleeper of this.#sleepers) if (sleeper.until <= now) sleeper.wake()
    for (const listener of this.#listeners) listener(ms)
  }

  /** Called with each move, for a clock in another process that is to go with this one. Gives what ends that. */
  onShift(listener: (shiftMs: number) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  now(): Date {
    return new Date(systemClock.now().getTime() + this.#shiftMs)
  }

  monotonicMs(): number {
    return systemClock.monotonicMs()
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const passed = Promise.withResolvers<void>()
    const rest = new AbortController()
    const sleeper = { until: this.now().getTime() + ms, wake: passed.resolve }
    const abort = () => rest.abort(signal?.reason)
    signal?.throwIfAborted()
    signal?.addEventListener('abort', abort, { once: true })
    this.#sleepers.add(sleeper)
    const slept = systemClock.sleep(ms, rest.signal)
    // aborted below when a move has ended the sleep
    slept.catch(() => undefined)
    try {
      await Promise.race([passed.promise, slept])
    } finally {
      this.#sleepers.delete(sleeper)
      signal?.removeEventListener('abort', abort)
      rest.abort()
    }
  }

  /** Wall time is `ms` ahead while `work` is at it. */
  async ahead<T>(ms: number, work: () => Promise<T>): Promise<T> {
    this.shiftMs += ms
    try {
      return await work()
    } finally {
      this.shiftMs -= ms
    }
  }
}
