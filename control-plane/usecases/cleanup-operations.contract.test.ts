import pino from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import type { Caller } from '../api/operations.ts'
import { listAuditEntries } from '../catalog/audit.ts'
import { listBackups } from '../catalog/backups.ts'
import { makeHost, type TestHost } from '../catalog/fleet-fixture.ts'
import { putPolicy } from '../catalog/policies.ts'
import { backups, sources } from '../catalog/schema/schema.ts'
import { policySchema } from '../domain/policy.ts'
import { cleanupOperations } from './cleanup-operations.ts'
import type { ControlPlane } from './control-plane.ts'

const admin: Caller = { keyId: 'k', keyName: 'root', role: 'admin', sources: [] }

describe.each(await catalogsUnderTest())('cleanup, $kind', ({ open }) => {
  let under: TestCatalog
  let host: TestHost
  let operations: ReturnType<typeof cleanupOperations>
  const clock = new FakeClock('2026-11-21T12:00:00Z')
  const ids: string[] = []

  beforeAll(async () => {
    under = await open()
    const { db } = under.catalog
    host = await makeHost(db, clock.now())
    const cp = { catalog: under.catalog, clock, log: pino({ level: 'silent' }), wake: () => undefined } as unknown as ControlPlane
    operations = cleanupOperations(cp)
    for (let day = 1; day <= 4; day++) {
      const at = new Date(Date.UTC(2026, 9, day))
      const id = `2026100${day}T000000Z-${host.host.slice(1)}0${day}`
      ids.push(id)
      await db.insert(backups).values({
        ...{
          id,
          sourceId: host.source.id,
          host: host.host,
          source: 'app',
          engine: 'fake',
          type: 'full',
          status: 'good',
          target: 't',
        },
        ...{ createdAt: at, finishedAt: at, sizeBytes: 1000, storedBytes: 100, totalCount: 10, valid: true, sequence: day },
      })
    }
    const policy = policySchema.parse({ select: { sources: [`${host.host}/*`] }, targets: ['t'], retention: { last: 2 } })
    await putPolicy(db, `p${host.host}`, policy, clock.now())
  })
  afterAll(() => under.dispose())

  test('the preview names what would go and changes nothing', async () => {
    const preview = await operations.previewCleanup(admin)
    expect(preview).toMatchObject({ dry_run: true, keep: 2, freed_bytes: 200, held: [] })
    expect(preview.remove.map((one) => one.id).sort()).toEqual(ids.slice(0, 2))
    expect((await listBackups(under.catalog.db, { source: `${host.host}/app`, status: 'good' })).items).toHaveLength(4)
  })

  test('a key for other sources sees none of it', async () => {
    const preview = await operations.previewCleanup({ ...admin, sources: ['other/*'] })
    expect(preview).toMatchObject({ remove: [], keep: 0, freed_bytes: 0 })
  })

  test('what the preview named goes, each audited with who asked', async () => {
    const done = await operations.cleanup(admin)
    expect(done.remove.map((one) => one.id).sort()).toEqual(ids.slice(0, 2))
    const left = await listBackups(under.catalog.db, { source: `${host.host}/app`, status: 'good' })
    expect(left.items.map((one) => one.id).sort()).toEqual(ids.slice(2))
    const entries = await listAuditEntries(under.catalog.db, { action: 'backup.remove', actor: 'key:root' }, { limit: 10 })
    expect(entries.map((entry) => entry.subject).sort()).toEqual(ids.slice(0, 2))
  })

  test('a sharp fall is accepted by name', async () => {
    const view = await operations.acceptFall(admin, `${host.host}/app`)
    expect(view.source).toBe(`${host.host}/app`)
    const rows = await under.catalog.db.select().from(sources)
    expect(rows.find((row) => row.id === host.source.id)?.fallAcceptedAt).toEqual(clock.now())
    await expect(operations.acceptFall(admin, 'no/such')).rejects.toMatchObject({ code: 'not_found' })
  })

  test('backups are found by the beginning or ending of their id', async () => {
    const find = async (id: string) => (await listBackups(under.catalog.db, { id })).items.map((one) => one.id)
    expect(await find(ids[3]?.slice(-6) ?? '')).toEqual([ids[3]])
    expect(await find('20261004')).toEqual([ids[3]])
    // Inside an id, and nowhere its end, whatever the name of the host.
    expect(await find('004T000000Z')).toEqual([])
    await expect(find('%')).rejects.toMatchObject({ code: 'invalid_argument' })
  })
})
