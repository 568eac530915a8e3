import type { FakeClock } from '../../shared/fake-clock.ts'

export interface WaitOptions {
  /** 55 s unless told: what takes a few seconds on a quiet machine, and less than a unit test has, so that what did not come is named. */
  readonly timeoutMs?: number
  /** Between two looks; unless told 25 ms at first and a quarter of a second in the end: requests of operators are counted by the minute. */
  readonly everyMs?: number
}

/**
 * Waits until `state` gives a value that is neither undefined, null nor false, and gives that. A state that throws is not
 * reached yet. After the time-out it throws, naming `what` and the last thing thrown.
 */
export async function waitFor<T>(
  what: string,
  state: () => T | Promise<T>,
  options: WaitOptions = {},
): Promise<Exclude<T, undefined | null | false>> {
  const timeoutMs = options.timeoutMs ?? 55_000
  const end = performance.now() + timeoutMs
  let everyMs = options.everyMs ?? 25
  let cause: unknown
  for (;;) {
    try {
      const value = await state()
      if (value !== undefined && value !== null && value !== false) return value as Exclude<T, undefined | null | false>
      cause = undefined
    } catch (error) {
      cause = error
    }
    if (performance.now() >= end) throw new Error(`waited ${timeoutMs / 1000} s for ${what}`, { cause })
    await new Promise((resolve) => setTimeout(resolve, everyMs))
    if (options.everyMs === undefined) everyMs = Math.min(250, everyMs * 1.2)
  }
}

/**
 * How long it is until `state`, by the clock of what is looked at, which goes on by a tenth of a second at each look: a machine that has other work
 * takes nothing from a time that is promised.
 */
export async function tookByClock(what: string, clock: FakeClock, state: () => boolean | undefined): Promise<number> {
  const startMs = clock.monotonicMs()
  await waitFor(what, async () => {
    await clock.advance(100)
    return state()
  })
  return clock.monotonicMs() - startMs
}
