import { expect, test } from 'vitest'
import type { Bench } from '../contract.ts'
import { memorySink } from './memory.ts'
import { backupPlan, failureOf, restorePlan, sourcePlace, take, withRun } from './plans.ts'

/** What may happen to the source: nothing. What may show of its secrets: nothing. */
export function sourceRules<Config>(bench: Bench<Config>): void {
  const { engine } = bench

  test('an unknown configuration key is refused', async () => {
    const store = await bench.make()
    expect(engine.config.safeParse(store.rawConfig).success).toBe(true)
    expect(engine.config.safeParse({ ...store.rawConfig, unknown_key: 1 }).success).toBe(false)
  })

  test('discover, describe, preflight, preview, count and check change nothing', async () => {
    const store = await bench.make()
    const place = sourcePlace(store)
    const { source, fingerprint } = await take(bench, store)
    const before = [await store.state(place), await store.places()]
    await withRun(async (run) => {
      await engine.discover(run)
      expect(Object.keys(await engine.describe(store.config, run)).length).toBeGreaterThan(0)
      const blocking = (await engine.preflight(backupPlan(store.config), run)).filter(({ severity }) => severity === 'error')
      expect(blocking).toEqual([])
      await engine.preflight(restorePlan(store.config, 'elsewhere'), run)
      await engine.preview(restorePlan(store.config, 'elsewhere'), source, run)
      await engine.preview(restorePlan(store.config, null, { overwrite: true }), source, run)
      expect(await engine.count(place, run)).toEqual(fingerprint)
      expect(await engine.check(place, fingerprint, run)).toEqual([])
    })
    expect([await store.state(place), await store.places()]).toEqual(before)
  })

  test('a backup changes nothing, and two at a time are the same', async () => {
    const store = await bench.make()
    const before = [await store.state(sourcePlace(store)), await store.places()]
    const [first, second] = await Promise.all([take(bench, store), take(bench, store)])
    expect(first.fingerprint).toEqual(second.fingerprint)
    expect(Object.values(first.fingerprint.counts).reduce((sum, count) => sum + count, 0)).toBeGreaterThan(0)
    expect([await store.state(sourcePlace(store)), await store.places()]).toEqual(before)
  })

  test('preflight of a source that cannot be reached says so with a hint', async () => {
    const store = await bench.make()
    const findings = await withRun((run) => engine.preflight(backupPlan(store.unreachable), run))
    const errors = findings.filter(({ severity }) => severity === 'error')
    expect(errors.length).toBeGreaterThan(0)
    for (const { hint } of errors) expect(hint).toMatch(/^[A-Z].*\.$/s)
  })

  test('no secret shows in errors, logs or findings', async () => {
    const store = await bench.make()
    const said = await withRun(async (run) => {
      const error = await failureOf(engine.backup(backupPlan(store.unreachable), memorySink().sink, run))
      const findings = await engine.preflight(backupPlan(store.unreachable), run)
      await engine.backup(backupPlan(store.config), memorySink().sink, run)
      const facts = await engine.describe(store.config, run)
      return [
        error.message,
        error.stack,
        JSON.stringify(error),
        JSON.stringify([findings, run.findings, facts]),
        run.logged(),
      ].join()
    })
    for (const secret of store.secrets) expect(said).not.toContain(secret)
  })
}
