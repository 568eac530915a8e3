import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { makeHost, type TestHost } from '../catalog/fleet-fixture.ts'
import { backups, jobs } from '../catalog/schema/schema.ts'
import { createMetrics, type Metrics } from './metrics.ts'

const NOW = new Date('2026-11-21T12:00:00Z')
const ago = (seconds: number) => new Date(NOW.getTime() - seconds * 1000)

describe.each(await catalogsUnderTest())('metrics, $kind', ({ open }) => {
  let under: TestCatalog
  let host: TestHost
  const clock = new FakeClock(NOW)
  const metrics = (): Metrics => createMetrics({ catalog: under.catalog, clock, version: '0.1.0', deadAfterMs: 30_000 })
  const lines = async (of: Metrics = metrics()) => (await of.read()).body.split('\n')
  let number = 0

  async function ended(of: {
    kind?: 'backup' | 'restore'
    state: 'succeeded' | 'failed' | 'cancelled'
    seconds?: number
    spec?: object
  }) {
    const id = `j${String(number++).padStart(15, '0')}`
    const { kind = 'backup', state, seconds = 10, spec = { type: 'full' } } = of
    await under.catalog.db.insert(jobs).values({
      ...{ id, kind, state, agentId: host.agentId, sourceId: host.source.id, spec: { ...spec }, maxAttempts: 1 },
      ...{ notBefore: ago(3600), deadlineSeconds: 60, requestedBy: 'test', createdAt: ago(3600) },
      ...{ startedAt: ago(1000), finishedAt: ago(1000 - seconds) },
    })
  }

  beforeAll(async () => {
    under = await open()
  })
  afterAll(() => under.dispose())

  test('every type and status is there at 0 before anything has happened', async () => {
    const found = await lines()
    for (const type of ['full', 'incremental', 'differential']) {
      for (const status of ['succeeded', 'failed', 'cancelled']) {
        expect(found).toContain(`backup_operations_total{type="${type}",status="${status}"} 0`)
      }
      expect(found).toContain(`backup_last_success_timestamp{type="${type}"} 0`)
      expect(found).toContain(`backup_size_bytes{type="${type}"} 0`)
      expect(found).toContain(`backup_success_rate{type="${type}"} Nan`)
      expect(found).toContain(`backup_duration_seconds_count{type="${type}"} 0`)
    }
    expect(found).toContain('restore_operations_total{status="failed"} 0')
    expect(found).toContain('restore_duration_seconds_bucket{le="+Inf"} 0')
    expect(found).toContain('# TYPE backup_duration_seconds histogram')
    expect(found).toContain('holdfast_agents_connected 0')
    expect(found).toContain('holdfast_jobs_queued 0')
  })

  test('what happened is counted in the catalog, so that a restart forgets nothing', async () => {
    host = await makeHost(under.catalog.db, ago(7200))
    const source = `${host.host}/app`
    expect(await lines()).toContain(`holdfast_source_backup_age_seconds{source="${source}",engine="fake"} 7200`)
    await ended({ state: 'succeeded', seconds: 20 })
    await ended({ state: 'succeeded', seconds: 400 })
    await ended({ state: 'failed' })
    await ended({ state: 'cancelled', spec: { type: 'incremental' } })
    await ended({ state: 'succeeded', spec: { type: 'full', dry_run: true } })
    await ended({ kind: 'restore', state: 'succeeded', seconds: 3, spec: { plan_only: false } })
    await ended({ kind: 'restore', state: 'succeeded', spec: { plan_only: true } })
    const good = (id: string, at: Date, parts: string[]) => ({
      ...{
        id: `20261121T000000Z-000000000${id}`,
        sourceId: host.source.id,
        host: host.host,
        source: 'app',
        engine: 'fake',
        parts,
      },
      ...{ type: 'full' as const, status: 'good' as const, target: 't', createdAt: at, finishedAt: at, sizeBytes: 3_100_000 },
    })
    await under.catalog.db.insert(backups).values([good('1', ago(600), []), good('2', ago(60), ['part'])])
    for (const found of [await lines(), await lines(metrics())]) {
      expect(found).toContain('backup_operations_total{type="full",status="succeeded"} 2')
      expect(found).toContain('backup_operations_total{type="full",status="failed"} 1')
      expect(found).toContain('backup_operations_total{type="incremental",status="cancelled"} 1')
      expect(found).toContain('backup_duration_seconds_bucket{type="full",le="15"} 0')
      expect(found).toContain('backup_duration_seconds_bucket{type="full",le="30"} 1')
      expect(found).toContain('backup_duration_seconds_bucket{type="full",le="+Inf"} 2')
      expect(found).toContain('backup_duration_seconds_sum{type="full"} 420')
      expect(found).toContain('restore_operations_total{status="succeeded"} 1')
      expect(found).toContain('restore_duration_seconds_bucket{le="5"} 1')
      expect(found).toContain(`backup_success_rate{type="full"} ${2 / 3}`)
      expect(found).toContain('backup_size_bytes{type="full"} 3100000')
      expect(found).toContain(`backup_last_success_timestamp{type="full"} ${ago(60).getTime() / 1000}`)
      // a backup of one part does not protect the source
      expect(found).toContain(`holdfast_source_backup_age_seconds{source="${source}",engine="fake"} 600`)
      expect(found).toContain('holdfast_agents 1')
    }
  })

  test('scrapes at the same time are one reading', async () => {
    const one = metrics()
    const [first, second] = await Promise.all([one.read(), one.read()])
    expect(first?.body).toBe(second?.body)
    expect(first?.body.match(/^backup_operations_total\{type="full",status="succeeded"\} 2$/m)).not.toBeNull()
  })
})
