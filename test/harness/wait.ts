export interface WaitOptions {
  /** 30 s unless told. */
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
  const timeoutMs = options.timeoutMs ?? 30_000
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
