import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { createLogger } from '../../shared/log.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { makeHost, type TestHost } from '../catalog/fleet-fixture.ts'
import { listJobs, requestCancel } from '../catalog/jobs.ts'
import { listOccurrences } from '../catalog/occurrences.ts'
import { deletePolicy, putPolicy } from '../catalog/policies.ts'
import { policySchema } from '../domain/policy.ts'
import { runDueSchedules } from './run-schedules.ts'

const catalogs = await catalogsUnderTest()
const log = createLogger({ level: 'silent' })

describe.each(catalogs)('schedules, $kind', ({ open }) => {
  let under: TestCatalog
  const clock = new FakeClock('2026-11-20T12:00:00Z')
  beforeAll(async () => {
    under = await open()
  })
  afterAll(() => under.dispose())

  const deps = (catalog: Catalog = under.catalog) => ({
    catalog,
    log,
    settings: { maxAttempts: 3, jobDeadlineSeconds: 3600 },
    wake: () => undefined,
  })
  const run = (catalog?: Catalog) => runDueSchedules(deps(catalog), clock.now())
  const hours = (count: number) => clock.advance(count * 3_600_000)
  const jobsOf = async (host: TestHost) => (await listJobs(under.catalog.db, { source: `${host.host}/app` })).items

  /** A policy for one new source alone; gone again after `work`. */
  async function withPolicy(schedule: object, work: (host: TestHost, put: (schedule: object) => Promise<void>) => Promise<void>) {
    const { db } = under.catalog
    const host = await makeHost(db, clock.now())
    const put = async (changed: object) => {
      const policy = policySchema.parse({ select: { sources: [`${host.host}/*`] }, schedule: changed, targets: ['primary'] })
      await putPolicy(db, host.host, policy, clock.now())
    }
    await put(schedule)
    await work(host, put).finally(() => deletePolicy(db, host.host))
  }
  const daily = { incremental: '0 2 * * *', full: '0 2 * * 0', timezone: 'UTC' }

  test('a due time queues one job, whoever asks and however often', () =>
    withPolicy(daily, async (host) => {
      expect(await run()).toBe(0)
      await hours(14)
      const others = under.another ? [await under.another(), await under.another()] : [under.catalog, under.catalog]
      const queued = await Promise.all([run(), ...others.map((catalog) => run(catalog))])
      expect(queued.reduce((sum, count) => sum + count)).toBe(1)
      expect(await run()).toBe(0)
      expect(await jobsOf(host)).toMatchObject([
        {
          state: 'queued',
          spec: { type: 'incremental', target: 'primary' },
          policy: host.host,
          requestedBy: `schedule:${host.host}`,
        },
      ])
      if (under.another) for (const catalog of others) await catalog.close()
    }))

  test('missed runs are caught up once, by the largest type missed', () =>
    withPolicy(daily, async (host) => {
      // over a Sunday
      await hours(24 * 9)
      expect(await run()).toBe(1)
      expect(await jobsOf(host)).toMatchObject([{ spec: { type: 'full' } }])
      const outcomes = (await listOccurrences(under.catalog.db, host.host, host.source.id)).map((row) => row.outcome)
      expect(outcomes[0]).toBe('fired')
      expect(new Set(outcomes.slice(1))).toEqual(new Set(['missed']))
    }))

  test('overlap is refused: a run whose predecessor is not finished is left out, and said so', () =>
    withPolicy(daily, async (host) => {
      await hours(24)
      await run()
      await hours(24)
      expect(await run()).toBe(0)
      const [first] = await jobsOf(host)
      expect(await listOccurrences(under.catalog.db, host.host, host.source.id)).toMatchObject([
        { outcome: 'skipped-overlap', jobId: null },
        { outcome: 'fired', jobId: first?.id },
      ])
      await requestCancel(under.catalog.db, first?.id ?? '', 'test', clock.now())
      expect(await run()).toBe(0)
      await hours(24)
      expect(await run()).toBe(1)
    }))

  test('a run that missed its window is skipped, and said so', () =>
    withPolicy({ ...daily, window: '1h' }, async (host) => {
      await hours(24 * 3 + 3)
      expect(await run()).toBe(0)
      expect(await jobsOf(host)).toEqual([])
      const outcomes = (await listOccurrences(under.catalog.db, host.host, host.source.id)).map((row) => row.outcome)
      expect(new Set(outcomes)).toEqual(new Set(['skipped-window']))
    }))

  test('a changed schedule does not make up for times before the change, another change does not lose a run that is due', () =>
    withPolicy(daily, async (host, put) => {
      await hours(24)
      await put({ ...daily, incremental: '30 1 * * *', full: undefined })
      expect(await run()).toBe(0)
      await hours(24)
      // the same schedule again, as applying an unchanged file does
      await put({ ...daily, incremental: '30 1 * * *', full: undefined })
      expect(await run()).toBe(1)
      expect(await jobsOf(host)).toHaveLength(1)
    }))
})
