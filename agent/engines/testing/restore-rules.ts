import { expect, test } from 'vitest'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Bench } from '../contract.ts'
import { memorySource } from './memory.ts'
import { failureOf, placeBeside, restorePlan, sourcePlace, take, withRun } from './plans.ts'

/** What a restore makes, and what it leaves alone. */
export function restoreRules<Config>(bench: Bench<Config>): void {
  const { engine } = bench
  const swaps = engine.abilities.overwrite === 'swap'

  test('a backup restored into another name is equal to its source', async () => {
    const store = await bench.make()
    const { source, fingerprint } = await take(bench, store)
    const beside = placeBeside(store, 'elsewhere')
    await withRun(async (run) => {
      await engine.restore(restorePlan(store.config, 'elsewhere'), source, run)
      expect(await engine.check(beside, fingerprint, run)).toEqual([])
      expect(run.findings.filter(({ severity }) => severity === 'error')).toEqual([])
    })
    expect(await store.state(beside)).toBe(await store.state(sourcePlace(store)))
  })

  test('an incremental after changes restores the changed source', async () => {
    const store = await bench.make()
    const full = await take(bench, store)
    const before = await store.state(sourcePlace(store))
    await store.mutate()
    const next = await take(bench, store, { type: 'incremental' }, { base: full.backup })
    await withRun((run) => engine.restore(restorePlan(store.config, 'elsewhere'), next.source, run))
    await withRun((run) => engine.restore(restorePlan(store.config, 'earlier'), full.source, run))
    expect(await store.state(placeBeside(store, 'elsewhere'))).toBe(await store.state(sourcePlace(store)))
    expect(await store.state(placeBeside(store, 'earlier'))).toBe(before)
    expect(await store.state(sourcePlace(store))).not.toBe(before)
  })

  test('a restore over what exists is refused with source_exists', async () => {
    const store = await bench.make()
    const { source } = await take(bench, store)
    await store.mutate()
    const before = [await store.state(sourcePlace(store)), await store.places()]
    expect((await failureOf(withRun((run) => engine.restore(restorePlan(store.config, null), source, run)))).code).toBe(
      'source_exists',
    )
    expect([await store.state(sourcePlace(store)), await store.places()]).toEqual(before)
  })

  test.runIf(swaps)('overwrite swaps, and preview says what is lost', async () => {
    const store = await bench.make()
    const { source } = await take(bench, store)
    const [before, places] = [await store.state(sourcePlace(store)), await store.places()]
    await store.mutate()
    const plan = restorePlan(store.config, null, { overwrite: true })
    await withRun(async (run) => {
      expect((await engine.preview(plan, source, run)).replaces).toHaveLength(1)
      expect((await engine.preview(restorePlan(store.config, 'elsewhere'), source, run)).replaces).toEqual([])
      await engine.restore(plan, source, run)
    })
    expect(await store.state(sourcePlace(store))).toBe(before)
    expect(await store.places()).toEqual(places)
  })

  test.runIf(!swaps)('overwrite is refused by an engine that cannot swap', async () => {
    const store = await bench.make()
    const { source } = await take(bench, store)
    const plan = restorePlan(store.config, null, { overwrite: true })
    expect((await failureOf(withRun((run) => engine.restore(plan, source, run)))).code).toBe('not_supported')
  })

  const targets: Array<[string, string | null]> = swaps ? [['what exists', null]] : []
  test.each([...targets, ['a new place', 'elsewhere'] as const])('a fenced attempt swaps nothing: %s', async (_, targetName) => {
    const store = await bench.make()
    const { source } = await take(bench, store)
    await store.mutate()
    const before = [await store.state(sourcePlace(store)), await store.places()]
    const fenced = new HoldfastError('attempt_fenced', 'this attempt may no longer write')
    const plan = restorePlan(store.config, targetName, { overwrite: targetName === null })
    const restoring = withRun(
      (run) => engine.restore(plan, source, run),
      () => fenced,
    )
    expect(await failureOf(restoring)).toBe(fenced)
    expect([await store.state(sourcePlace(store)), await store.places()]).toEqual(before)
  })

  test.each([...targets, ['a new place', 'elsewhere'] as const])(
    'a failure in the middle leaves what was there and nothing half-made: %s',
    async (_, targetName) => {
      const store = await bench.make()
      const { backup, fingerprint } = await take(bench, store)
      await store.mutate()
      const before = [await store.state(sourcePlace(store)), await store.places()]
      const damaged = new HoldfastError('object_damaged', 'packs/1-x is damaged')
      const source = memorySource(backup, fingerprint, {
        onBytes: (total) => {
          if (total > 1000) throw damaged
        },
      })
      const plan = restorePlan(store.config, targetName, { overwrite: targetName === null })
      expect(await failureOf(withRun((run) => engine.restore(plan, source, run)))).toBe(damaged)
      expect([await store.state(sourcePlace(store)), await store.places()]).toEqual(before)
    },
  )

  test.runIf(engine.abilities.parts !== null)('chosen parts of a backup are restored, and no others', async () => {
    const store = await bench.make()
    const parts = store.parts ?? []
    const { source } = await take(bench, store)
    const beside = placeBeside(store, 'elsewhere')
    await withRun((run) => engine.restore(restorePlan(store.config, 'elsewhere', { parts }), source, run))
    expect(await store.state(beside, parts)).toBe(await store.state(sourcePlace(store), parts))
    expect(await store.holdsMoreThan(beside, parts)).toBe(false)
    expect(await store.holdsMoreThan(sourcePlace(store), parts)).toBe(true)
  })

  test.runIf(engine.abilities.parts !== null)('a backup of chosen parts holds those, and no others', async () => {
    const store = await bench.make()
    const parts = store.parts ?? []
    const { source } = await take(bench, store, { parts })
    const beside = placeBeside(store, 'elsewhere')
    await withRun((run) => engine.restore(restorePlan(store.config, 'elsewhere'), source, run))
    expect(await store.state(beside, parts)).toBe(await store.state(sourcePlace(store), parts))
    expect(await store.holdsMoreThan(beside, parts)).toBe(false)
  })

  test('a part that is not there is an error, never an empty success', async () => {
    const store = await bench.make()
    const { source } = await take(bench, store)
    const before = await store.places()
    const plan = restorePlan(store.config, 'elsewhere', { parts: ['no-such.part'] })
    const expected = engine.abilities.parts === null ? /^not_supported$/ : /^(not_found|source_missing)$/
    expect((await failureOf(withRun((run) => engine.restore(plan, source, run)))).code).toMatch(expected)
    expect((await failureOf(take(bench, store, { parts: ['no-such.part'] }))).code).toMatch(expected)
    expect(await store.places()).toEqual(before)
  })
}
