import { expect, test } from 'vitest'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Bench } from '../contract.ts'
import { memorySink, memorySource } from './memory.ts'
import { backupPlan, children, failureOf, restorePlan, sourcePlace, take, withRun } from './plans.ts'
import type { TestRun } from './run.ts'

/** From the abort on: what comes before it takes as long as the machine needs. */
const LIMIT_MS = 30_000

/** The error that `work` ends with, which has to come soon after the run was aborted. */
function endOf(run: TestRun, work: Promise<unknown>): Promise<Error> {
  const late = Promise.withResolvers<never>()
  run.signal.addEventListener('abort', () => {
    const limit = AbortSignal.timeout(LIMIT_MS)
    limit.addEventListener('abort', () => late.reject(new Error(`it has not ended ${LIMIT_MS / 1000} s after its abort`)))
  })
  return Promise.race([failureOf(work), late.promise])
}

/** An abort ends within seconds, leaves no process and nothing half-made. */
export function abortRules<Config>(bench: Bench<Config>): void {
  const { engine } = bench
  const reason = new HoldfastError('job_cancelled', 'the job was cancelled')

  test('abort in the middle of a backup: it ends with the reason and leaves no process', async () => {
    const store = await bench.make()
    const before = [await store.state(sourcePlace(store)), await store.places()]
    const running = children()
    await withRun(async (run) => {
      const { sink } = memorySink({ onBytes: () => run.abort(reason) })
      expect(await endOf(run, engine.backup(backupPlan(store.config), sink, run))).toBe(reason)
    })
    expect(children()).toEqual(running)
    expect([await store.state(sourcePlace(store)), await store.places()]).toEqual(before)
  })

  test('a run that is aborted already does nothing', async () => {
    const store = await bench.make()
    const { source } = await take(bench, store)
    const before = await store.places()
    await withRun(async (run) => {
      run.abort(reason)
      const { sink, backup } = memorySink()
      expect(await failureOf(engine.backup(backupPlan(store.config), sink, run))).toBe(reason)
      expect(backup.streams.size + backup.trees.size).toBe(0)
      expect(await failureOf(engine.restore(restorePlan(store.config, 'elsewhere'), source, run))).toBe(reason)
    })
    expect(await store.places()).toEqual(before)
  })

  test('a target that fails in the middle of a backup: its error comes out, no process is left', async () => {
    const store = await bench.make()
    const running = children()
    const full = new HoldfastError('target_unreachable', 'the target does not answer')
    const { sink } = memorySink({
      onBytes: () => {
        throw full
      },
    })
    expect(await failureOf(withRun((run) => engine.backup(backupPlan(store.config), sink, run)))).toBe(full)
    expect(children()).toEqual(running)
  })

  const swaps = engine.abilities.overwrite === 'swap'
  test.each(swaps ? [null, 'elsewhere'] : ['elsewhere'])(
    'abort in the middle of a restore: nothing is changed, nothing half-made is left (%s)',
    async (targetName) => {
      const store = await bench.make()
      const { backup, fingerprint } = await take(bench, store)
      await store.mutate()
      const before = [await store.state(sourcePlace(store)), await store.places()]
      const running = children()
      await withRun(async (run) => {
        const source = memorySource(backup, fingerprint, { onBytes: (total) => total > 1000 && run.abort(reason) })
        const plan = restorePlan(store.config, targetName, { overwrite: targetName === null })
        expect(await endOf(run, engine.restore(plan, source, run))).toBe(reason)
      })
      expect(children()).toEqual(running)
      expect([await store.state(sourcePlace(store)), await store.places()]).toEqual(before)
    },
  )
}
