import { describe, expect, test } from 'vitest'
import { postgresEngine as engine } from '../../agent/engines/postgres/postgres.ts'
import { configOf, restoreTo } from '../../agent/engines/postgres/testing/bench.ts'
import { backupPlan, withRun } from '../../agent/engines/testing/plans.ts'
import { TestFleet } from '../../shared/repository/testing/fleet.ts'
import { standingPostgres } from '../harness/postgres.ts'
import { firstDifference, makeOddDatabase, stableDump } from '../harness/postgres-fixture.ts'

const server = await standingPostgres(18)

/** Through the real repository: named pipes read by its workers, chunks found again, rows given out in its own pieces. */
describe.skipIf(server === null)('postgresql 18', () => {
  if (server === null) return

  test('a full and an incremental come back out of the repository; unchanged rows are not stored again', async () => {
    const odd = await makeOddDatabase(server)
    const config = configOf(server, odd.name, { parallel: 3, range_bytes: 2 * 1024 * 1024 })
    const fleet = await TestFleet.create()
    const take = (type: 'full' | 'incremental') => (sink: Parameters<typeof engine.backup>[1]) =>
      withRun((run) => engine.backup(backupPlan(config, { type }), sink, run))
    const full = await fleet.backup(0, take('full'))
    const stored = fleet.lastTotals
    await odd.write()
    const incremental = await fleet.backup(1, take('incremental'), { base: full })
    expect(stored?.readBytes).toBeGreaterThan(10_000_000)
    const again = fleet.lastTotals
    // what is new is small beside padding and contents, so that bytes stored say little of so small a database
    expect(again?.skippedBytes).toBeGreaterThan((again?.readBytes ?? 0) * 0.8)
    expect(again?.storedBytes).toBeLessThan((stored?.storedBytes ?? 0) / 2)
    const reader = await fleet.reader(incremental)
    await restoreTo(config, 'again', reader)
    expect(firstDifference(await stableDump(server, 'again'), await stableDump(server, odd.name))).toBeNull()
    expect(await withRun((run) => engine.check({ config, targetName: 'again' }, reader.fingerprint, run))).toEqual([])
    await reader.close()
  })
})
