import { expect, test } from 'vitest'
import type { Fingerprint } from '../../../shared/results.ts'
import type { Bench } from '../contract.ts'
import { restorePlan, sourcePlace, take, withRun } from './plans.ts'

const CODES = /^(count_mismatch|part_missing|part_unexpected|db_integrity_check_failed)$/

/** What a test restore is judged by. */
export function checkRules<Config>(bench: Bench<Config>): void {
  const { engine } = bench

  test('a test restore into a sandbox agrees, and disposing of it, twice, leaves nothing', async () => {
    const store = await bench.make()
    const { source, fingerprint } = await take(bench, store)
    const before = [await store.state(sourcePlace(store)), await store.places()]
    await withRun(async (run) => {
      const sandbox = await engine.sandbox(store.config, run)
      const plan = { ...restorePlan(store.config, null), ...sandbox.place }
      await engine.restore(plan, source, run)
      expect(await engine.check(sandbox.place, fingerprint, run)).toEqual([])
      expect(await engine.count(sandbox.place, run)).toEqual(fingerprint)
      await sandbox.dispose()
      await sandbox.dispose()
      const unused = await engine.sandbox(store.config, run)
      await unused.dispose()
    })
    expect([await store.state(sourcePlace(store)), await store.places()]).toEqual(before)
  })

  test.runIf(engine.abilities.parts !== null)(
    'a test restore of a backup of chosen parts agrees, and what is lost is found',
    async () => {
      const store = await bench.make()
      const parts = store.parts ?? []
      const { source, fingerprint } = await take(bench, store, { parts })
      const whole = (await take(bench, store)).fingerprint
      await withRun(async (run) => {
        const sandbox = await engine.sandbox(store.config, run)
        await engine.restore({ ...restorePlan(store.config, null), ...sandbox.place }, source, run)
        expect(await engine.check(sandbox.place, fingerprint, run)).toEqual([])
        expect((await engine.check(sandbox.place, whole, run)).length).toBeGreaterThan(0)
        await sandbox.dispose()
      })
    },
  )

  test('what was lost since the backup is found', async () => {
    const store = await bench.make()
    const { fingerprint } = await take(bench, store)
    await store.lose(sourcePlace(store))
    const findings = await withRun((run) => engine.check(sourcePlace(store), fingerprint, run))
    expect(findings.length).toBeGreaterThan(0)
    for (const finding of findings) {
      expect(finding.code).toMatch(CODES)
      expect(finding.severity).toBe('error')
      expect(finding.hint).toMatch(/^[A-Z].*\.$/s)
    }
  })

  test('a fingerprint that lies is found, whichever way it lies', async () => {
    const store = await bench.make()
    const { fingerprint } = await take(bench, store)
    const first = Object.keys(fingerprint.counts)[0] ?? ''
    const { [first]: count = 0, ...others } = fingerprint.counts
    const lies: Fingerprint[] = [
      { ...fingerprint, counts: { ...others, [first]: count + 1 } },
      { ...fingerprint, counts: others },
      { ...fingerprint, counts: { ...fingerprint.counts, 'no-such.part': 1 } },
    ]
    for (const lie of lies) {
      const findings = await withRun((run) => engine.check(sourcePlace(store), lie, run))
      expect(findings.map(({ code }) => code).join()).toMatch(CODES)
    }
  })
}
