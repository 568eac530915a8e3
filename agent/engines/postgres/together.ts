import type { Run } from '../engine.ts'

/**
 * Several workers at the same task. The first failure stops the others, and is thrown when all of them have ended: a
 * failed job does not go on for as long as the largest table takes.
 */
export async function together(workers: number, run: Run, work: (run: Run) => Promise<void>): Promise<void> {
  const stop = new AbortController()
  const signal = AbortSignal.any([run.signal, stop.signal])
  const inner: Run = {
    signal,
    log: run.log,
    clock: run.clock,
    tools: run.tools,
    scratch: run.scratch,
    finding: (finding) => run.finding(finding),
    progress: (delta) => run.progress(delta),
    fenced: () => run.fenced(),
  }
  let first: { readonly error: unknown } | undefined
  await Promise.all(
    Array.from({ length: workers }, async () => {
      try {
        await work(inner)
      } catch (error) {
        first ??= { error }
        stop.abort(error)
      }
    }),
  )
  run.signal.throwIfAborted()
  if (first) throw first.error
}
