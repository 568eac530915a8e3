import { expect, test } from 'vitest'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Bench } from '../contract.ts'
import { memorySink, memorySource } from './memory.ts'
import { backupPlan, children, failureOf, restorePlan, sourcePlace, take, withRun } from './plans.ts'

const LIMIT_MS = 10_000

/** An abort ends within seconds, leaves no process and nothing half-made. */
export function abortRules<Config>(bench: Bench<Config>): void {
  const { engine } = bench
  const reason = new HoldfastError('job_cancelled', 'the job was cancelled')

  test('abort in the middle of a backup: it ends with the reason and leaves no process', { timeout: LIMIT_MS }, async () => {
    const store = await bench.make()
    const before = [await store.state(sourcePlace(store)), await store.places()]
    const running = children()
    await withRun(async (run) => {
      const { sink } = memorySink({ onBytes: () => run.abort(reason) })
      expect(await failureOf(engine.backup(backupPlan(store.config), sink, run))).toBe(reason)
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

  test('a target that fails in the middle of a backup: its error comes out, no process is left', {
    timeout: LIMIT_MS,
  }, async () => {
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
    { timeout: LIMIT_MS },
    async (targetName) => {
      const store = await bench.make()
      const { backup, fingerprint } = await take(bench, store)
      await store.mutate()
      const before = [await store.state(sourcePlace(store)), await store.places()]
      const running = children()
      await withRun(async (run) => {
        const source = memorySource(backup, fingerprint, { onBytes: (total) => total > 1000 && run.abort(reason) })
        const plan = restorePlan(store.config, targetName, { overwrite: targetName === null })
        expect(await failureOf(engine.restore(plan, source, run))).toBe(reason)
      })
      expect(children()).toEqual(running)
      expect([await store.state(sourcePlace(store)), await store.places()]).toEqual(before)
    },
  )
}
