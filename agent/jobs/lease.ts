import type { Clock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'

/**
 * How long this attempt may go on writing. A restore cannot be fenced by storage, so it fences itself: when nothing was heard from
 * the control plane for the lease's length, by this process's own monotonic clock, it stops and rolls back.
 */
export class Lease {
  readonly #clock: Clock
  #endsAt: number

  constructor(clock: Clock, remainingMs: number) {
    this.#clock = clock
    this.#endsAt = clock.monotonicMs() + remainingMs
  }

  /** Never shortens: an old message must not cut a newer one's time. */
  extend(remainingMs: number): void {
    this.#endsAt = Math.max(this.#endsAt, this.#clock.monotonicMs() + remainingMs)
  }

  /** Throws `lease_lost` once the lease has ended. */
  check(): void {
    if (this.#clock.monotonicMs() < this.#endsAt) return
    throw leaseLost()
  }

  /** Aborts `controller` when the lease ends, however often it is extended until then. Returns when `signal` aborts. */
  async watch(controller: AbortController): Promise<void> {
    while (!controller.signal.aborted) {
      const left = this.#endsAt - this.#clock.monotonicMs()
      if (left <= 0) return controller.abort(leaseLost())
      // ended by the controller's own abort: the job is over, nothing to watch
      await this.#clock.sleep(left, controller.signal).catch(() => undefined)
    }
  }
}

const leaseLost = (): HoldfastError =>
  new HoldfastError('lease_lost', 'the control plane was not heard for the length of the lease', {
    hint: 'The restore stopped and rolled back; it is tried again once the agent is connected and has confirmed the end of this attempt.',
  })
