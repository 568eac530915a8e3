import type { Clock } from '../../shared/clock.ts'
import type { JobEventView } from './schemas/jobs.ts'

const HEARTBEAT_MS = 15_000
const RECHECK_MS = 60_000

/**
 * Events of a job as Server-Sent Events (HTML standard, section 9.2), ending with `event: end`. Comments keep proxies from
 * closing a quiet stream. When the key is no longer allowed the stream ends with `event: revoked`. Abort ends it at once.
 */
export async function* eventStream(options: {
  events: AsyncIterable<JobEventView>
  /** Asked every minute. */
  allowed: () => Promise<boolean>
  clock: Clock
  /** Aborted from outside when the client is gone or the server stops, from here when the stream ends: `events` watches it. */
  stop: AbortController
}): AsyncGenerator<string> {
  const { clock, stop } = options
  const { signal } = stop
  const events = options.events[Symbol.asyncIterator]()
  let checkedMs = clock.monotonicMs()
  // what EventSource waits before it comes back
  yield 'retry: 2000\n\n'
  let next = events.next()
  try {
    for (;;) {
      const step = await firstOf(next, clock, signal)
      if (signal.aborted) return
      if (clock.monotonicMs() - checkedMs >= RECHECK_MS) {
        checkedMs = clock.monotonicMs()
        if (!(await options.allowed())) {
          yield 'event: revoked\ndata: {}\n\n'
          return
        }
      }
      if (step === 'quiet') {
        yield ': alive\n\n'
        continue
      }
      if (step.done) break
      next = events.next()
      yield formatted(step.value)
    }
    yield 'event: end\ndata: {}\n\n'
  } finally {
    stop.abort()
    // an iterator answers `return` only after the `next` under way; how that ended is of no interest any more
    await Promise.allSettled([next, events.return?.()])
  }
}

async function firstOf(
  next: Promise<IteratorResult<JobEventView>>,
  clock: Clock,
  signal: AbortSignal,
): Promise<IteratorResult<JobEventView> | 'quiet'> {
  const over = new AbortController()
  const quiet = clock.sleep(HEARTBEAT_MS, AbortSignal.any([over.signal, signal])).then(
    () => 'quiet' as const,
    () => 'quiet' as const,
  )
  try {
    return await Promise.race([next, quiet])
  } finally {
    over.abort()
  }
}

/** JSON has no line breaks, so one `data:` line is enough. */
function formatted(event: JobEventView): string {
  const id = event.id === null ? '' : `id: ${event.id}\n`
  return `${id}event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`
}
