import { type Clock, systemClock } from '../../shared/clock.ts'

/**
 * A control plane's clock whose wall time a test moves, so that waits of a quarter of a minute and more cost nothing: leases, retry times and
 * schedules go by it. Time goes on by itself; durations are the machine's own.
 */
export class ShiftedClock implements Clock {
  shiftMs = 0

  now(): Date {
    return new Date(systemClock.now().getTime() + this.shiftMs)
  }

  monotonicMs(): number {
    return systemClock.monotonicMs()
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return systemClock.sleep(ms, signal)
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
