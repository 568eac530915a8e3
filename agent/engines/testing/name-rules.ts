import { expect, test } from 'vitest'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Bench } from '../contract.ts'
import { ESCAPING_NAMES, HOSTILE_NAMES, VERY_LONG_NAME } from './names.ts'
import { placeBeside, restorePlan, sourcePlace, take, withRun } from './plans.ts'

/** A name is a name: it is used as it is, or refused; it never runs, and never leaves its folder. */
export function nameRules<Config>(bench: Bench<Config>): void {
  const { engine } = bench

  test('a hostile target name is used as it is, or refused with invalid_name', { timeout: 300_000 }, async () => {
    const store = await bench.make()
    const { source } = await take(bench, store)
    const wanted = await store.state(sourcePlace(store))
    for (const name of [...HOSTILE_NAMES, ...ESCAPING_NAMES, VERY_LONG_NAME]) {
      const before = await store.places()
      const outcome = await withRun((run) => engine.restore(restorePlan(store.config, name), source, run)).then(
        () => 'restored' as const,
        (error: unknown) => error,
      )
      const after = await store.places()
      if (outcome === 'restored') {
        if (store.namesArePaths) expect(ESCAPING_NAMES, `${JSON.stringify(name)} was taken`).not.toContain(name)
        expect(await store.state(placeBeside(store, name))).toBe(wanted)
        expect(after.filter((place) => !before.includes(place))).toHaveLength(1)
      } else {
        expect(outcome, JSON.stringify(name)).toBeInstanceOf(HoldfastError)
        expect((outcome as HoldfastError).code).toBe('invalid_name')
        expect(after).toEqual(before)
      }
    }
  })

  test('a hostile part is not found, or refused: it selects nothing else', { timeout: 300_000 }, async () => {
    const store = await bench.make()
    const { source } = await take(bench, store)
    const before = await store.places()
    for (const part of [...ESCAPING_NAMES, '../..', '/etc/passwd', '--all', VERY_LONG_NAME]) {
      const plan = restorePlan(store.config, 'elsewhere', { parts: [part] })
      const outcome = await withRun((run) => engine.restore(plan, source, run)).catch((error: unknown) => error)
      expect(outcome, JSON.stringify(part)).toBeInstanceOf(HoldfastError)
      expect((outcome as HoldfastError).code).toMatch(/^(not_found|source_missing|invalid_name|invalid_argument|not_supported)$/)
    }
    expect(await store.places()).toEqual(before)
  })

  test('a place has one key, and another place another', async () => {
    const store = await bench.make()
    const own = await engine.placeKey(sourcePlace(store))
    expect(await engine.placeKey(sourcePlace(store))).toBe(own)
    const beside = await engine.placeKey(placeBeside(store, 'beside'))
    expect(beside).not.toBe(own)
    expect(await engine.placeKey(placeBeside(store, 'beside'))).toBe(beside)
  })
}
