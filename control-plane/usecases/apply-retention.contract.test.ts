import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { eq } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { HoldfastError } from '../../shared/errors.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import { createLogger } from '../../shared/log.ts'
import { backupFolder, objectKey } from '../../shared/manifest/layout.ts'
import { openLocal } from '../../shared/storage/local/target.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { listAuditEntries } from '../catalog/audit.ts'
import { type BackupRow, createBackup, getBackup, setLeans, setPinned } from '../catalog/backups.ts'
import { makeHost, type TestHost } from '../catalog/fleet-fixture.ts'
import { recordAddress } from '../catalog/ledger.ts'
import { deletePolicy, putPolicy } from '../catalog/policies.ts'
import { backups } from '../catalog/schema/schema.ts'
import { acceptFall } from '../catalog/sources.ts'
import { policySchema } from '../domain/policy.ts'
import { applyRetention, planCleanup } from './apply-retention.ts'
import { destroyBackups } from './destroy-backups.ts'

const catalogs = await catalogsUnderTest()
const log = createLogger({ level: 'silent' })
const DAY = 86_400_000

describe.each(catalogs)('retention, $kind', ({ open }) => {
  let under: TestCatalog
  let folder: string
  let target: StorageTarget
  const clock = new FakeClock('2026-01-01T02:00:00Z')
  beforeAll(async () => {
    under = await open()
    folder = await mkdtemp(path.join(tmpdir(), 'holdfast-retention-'))
    target = await openLocal(folder, { name: 'primary', clock, create: true })
  })
  afterAll(async () => {
    await under.dispose()
    await target.close()
    await rm(folder, { recursive: true, force: true })
  })

  const deps = (storage: StorageTarget = target) => ({ catalog: under.catalog, log, target: async () => storage })
  const names = ['keys/1', 'packs/1-0123456789abcdef', 'contents', 'index', 'manifest.json']

  /** A good backup with objects on the target. */
  async function good(host: TestHost, leansOn: readonly BackupRow[] = [], more: Partial<BackupRow> = {}): Promise<BackupRow> {
    const { db } = under.catalog
    await clock.advance(DAY)
    const type = leansOn.length > 0 ? 'incremental' : 'full'
    const spec = {
      source: host.source,
      type,
      target: 'primary',
      jobId: 'none',
      parts: [],
      description: null,
      recipients: [],
    } as const
    const row = await createBackup(db, spec, clock.now())
    for (const name of names) await target.put(objectKey(row, name), Buffer.from(name))
    const wanted = names.slice(0, 4).map((name) => ({ name, size: name.length, sha256: Buffer.alloc(32) }))
    await recordAddress(db, { id: row.id, attempt: 1 }, wanted, clock.now())
    await setLeans(
      db,
      row.id,
      leansOn.map((base) => base.id),
    )
    await db
      .update(backups)
      .set({ status: 'good', valid: true, totalCount: 1000, manifestSha256: Buffer.alloc(32), ...more })
      .where(eq(backups.id, row.id))
    return row
  }
  const stored = async (row: BackupRow) => {
    const keys: string[] = []
    for await (const { key } of target.list(backupFolder(row))) keys.push(key.slice(backupFolder(row).length))
    return keys
  }
  async function withRetention(retention: object, work: (host: TestHost) => Promise<void>) {
    const host = await makeHost(under.catalog.db, clock.now())
    const policy = policySchema.parse({ select: { sources: [`${host.host}/*`] }, targets: ['primary'], retention })
    await putPolicy(under.catalog.db, host.host, policy, clock.now())
    await work(host).finally(() => deletePolicy(under.catalog.db, host.host))
  }
  const apply = () => applyRetention(deps(), 'control-plane', clock.now())
  const only = <T>(items: T[]): T => {
    expect(items).toHaveLength(1)
    return items[0] as T
  }

  test('what is shown is what is done, each removal audited, and nothing of a source without a policy', () =>
    withRetention({ last: 2 }, async (host) => {
      const made = [await good(host), await good(host), await good(host), await good(host)]
      const unprotected = await makeHost(under.catalog.db, clock.now())
      const left = [await good(unprotected), await good(unprotected)]
      const shown = only(await planCleanup(under.catalog.db, clock.now())).plan
      expect(shown.remove.map(({ id }) => id)).toEqual([made[1]?.id, made[0]?.id])
      expect(await getBackup(under.catalog.db, made[0]?.id ?? '')).toMatchObject({ status: 'good' })
      expect(only(await apply()).plan).toEqual(shown)
      for (const row of made.slice(0, 2)) {
        expect(await getBackup(under.catalog.db, row.id)).toMatchObject({ status: 'expired', removalReason: expect.any(String) })
        const audited = await listAuditEntries(under.catalog.db, { subject: row.id }, { limit: 10 })
        expect(audited).toMatchObject([{ action: 'backup.remove', outcome: 'done' }])
      }
      for (const row of [...made.slice(2), ...left])
        expect(await getBackup(under.catalog.db, row.id)).toMatchObject({ status: 'good' })
      expect(only(await apply()).plan.remove).toEqual([])
    }))

  test('objects go after the grace period, the keys first on every target, and absent keys are proven', () =>
    withRetention({ last: 1 }, async (host) => {
      const old = await good(host)
      await good(host)
      await apply()
      expect(await destroyBackups(deps(), clock.now(), 3600)).not.toContain(old.id)
      expect(await stored(old)).toHaveLength(names.length)
      await clock.advance(3600_000)
      const removed: string[] = []
      const watching = proxyOf(target, (key) => removed.push(key))
      expect(await destroyBackups(deps(watching), clock.now(), 3600)).toContain(old.id)
      const ofOld = removed.filter((key) => key.startsWith(backupFolder(old))).map((key) => key.slice(backupFolder(old).length))
      expect(ofOld.slice(0, 2)).toEqual(['keys/1', 'manifest.json'])
      expect(await stored(old)).toEqual([])
      expect(await getBackup(under.catalog.db, old.id)).toMatchObject({
        removedAt: expect.any(Date),
        copies: [{ state: 'removed' }],
      })
      expect(await destroyBackups(deps(), clock.now(), 3600)).toEqual([])
    }))

  test('under a lock the destruction stays pending: nothing is said to be gone before its keys are', () =>
    withRetention({ last: 1 }, async (host) => {
      const old = await good(host)
      await good(host)
      await apply()
      const refused = new HoldfastError('target_refused', 'object is locked')
      const locked = proxyOf(target, (key) => {
        if (key.includes('/keys/')) throw refused
      })
      expect(await destroyBackups(deps(locked), clock.now(), 0)).toEqual([])
      expect(await stored(old)).toHaveLength(names.length)
      expect(await getBackup(under.catalog.db, old.id)).toMatchObject({ keysDestroyedAt: null, removedAt: null })
      expect(await destroyBackups(deps(), clock.now(), 0)).toContain(old.id)
    }))

  test('a base stays while a kept backup leans on it, retired; it goes when nothing leans on it', () =>
    withRetention({ last: 1 }, async (host) => {
      const full = await good(host)
      const middle = await good(host, [full])
      const last = await good(host, [middle])
      await apply()
      expect(await getBackup(under.catalog.db, middle.id)).toMatchObject({
        status: 'expired',
        retiredAt: expect.any(Date),
        tombstonedAt: null,
        leansOn: [],
      })
      expect(await getBackup(under.catalog.db, full.id)).toMatchObject({ tombstonedAt: expect.any(Date) })
      await good(host)
      await apply()
      expect(await getBackup(under.catalog.db, last.id)).toMatchObject({ tombstonedAt: expect.any(Date) })
      expect(await getBackup(under.catalog.db, middle.id)).toMatchObject({ tombstonedAt: expect.any(Date) })
    }))

  test('pins win, and a sharp fall in counts holds removal until it is accepted', () =>
    withRetention({ last: 1 }, async (host) => {
      const { db } = under.catalog
      const pinned = await good(host)
      await setPinned(db, pinned.id, 'key:me', clock.now())
      const full = await good(host)
      await good(host, [], { totalCount: 10 })
      const { plan } = only(await apply())
      expect(plan).toMatchObject({ remove: [], held: [{ code: 'sharp_fall' }] })
      await acceptFall(db, host.source.id, clock.now())
      await apply()
      expect(await getBackup(db, full.id)).toMatchObject({ tombstonedAt: expect.any(Date) })
      expect(await getBackup(db, pinned.id)).toMatchObject({ status: 'good' })
    }))

  test('an attempt that came to nothing is removed after its last address has expired', () =>
    withRetention({ last: 1 }, async (host) => {
      const failed = await good(host, [], { status: 'failed' })
      const later = new Date(clock.now().getTime() + 900_000)
      const object = { name: 'packs/1-fedcba9876543210', size: 1, sha256: Buffer.alloc(32) }
      await recordAddress(under.catalog.db, { id: failed.id, attempt: 1 }, [object], later)
      expect(await destroyBackups(deps(), clock.now(), 0)).not.toContain(failed.id)
      await clock.advance(900_000 + 61_000)
      expect(await destroyBackups(deps(), clock.now(), 0)).toContain(failed.id)
      expect(await stored(failed)).toEqual([])
    }))
})

/** The same target, its removals seen first. */
function proxyOf(target: StorageTarget, onRemove: (key: string) => void): StorageTarget {
  return new Proxy(target, {
    get: (of, property) => {
      const value: unknown = Reflect.get(of, property)
      if (property !== 'remove') return typeof value === 'function' ? value.bind(of) : value
      return async (key: string) => {
        onRemove(key)
        await of.remove(key)
      }
    },
  })
}
