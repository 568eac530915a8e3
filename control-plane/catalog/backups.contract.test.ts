import { eq } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { randomBase32 } from '../../shared/ids.ts'
import type { Manifest } from '../../shared/manifest/manifest.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { adoptBackup, adoptLeans, type FoundManifest } from './adopt.ts'
import {
  type BackupRow,
  closure,
  createBackup,
  findBackup,
  getBackup,
  listBackups,
  manifestOf,
  markGood,
  setPinned,
} from './backups.ts'
import { makeHost, type TestHost } from './fleet-fixture.ts'
import { confirmObjects, damagedPacks, markDamaged, objectsOf, recordAddress, unreadableAmong } from './ledger.ts'
import { deleteTarget, getPolicy, getTarget, putPolicy, putTarget } from './policies.ts'
import { tombstone } from './removal.ts'
import { backups } from './schema/schema.ts'
import { findSource, listSources, syncSources } from './sources.ts'
import { ownLooks } from './standing.ts'
import { recordVerification } from './verifications.ts'

const catalogs = await catalogsUnderTest()

describe.each(catalogs)('backups, $kind', ({ open }) => {
  let under: TestCatalog
  const clock = new FakeClock('2026-11-21T02:00:00Z')
  const now = () => clock.now()
  beforeAll(async () => {
    under = await open()
  })
  afterAll(() => under.dispose())

  const newHost = () => makeHost(under.catalog.db, now())
  async function newBackup(host: TestHost, more: Partial<typeof backups.$inferInsert> = {}): Promise<BackupRow> {
    await clock.advance(1000)
    const row = await createBackup(
      under.catalog.db,
      {
        source: host.source,
        type: 'full',
        target: 'primary',
        jobId: 'none',
        parts: [],
        description: null,
        recipients: ['age1x'],
      },
      now(),
    )
    await under.catalog.db
      .update(backups)
      .set({ manifestSha256: Buffer.alloc(32), status: 'good', ...more })
      .where(eq(backups.id, row.id))
    return row
  }

  describe('a backup is found', () => {
    test('by its id, by a unique beginning or ending of it, and as the latest good one of a source', async () => {
      const { db } = under.catalog
      const host = await newHost()
      const first = await newBackup(host)
      const second = await newBackup(host)
      await newBackup(host, { status: 'failed' })
      expect(await findBackup(db, first.id)).toMatchObject({ id: first.id, leansOn: [], copies: [{ target: 'primary' }] })
      expect(await findBackup(db, first.id.slice(-6))).toMatchObject({ id: first.id })
      expect(await findBackup(db, first.id.slice(0, -1))).toMatchObject({ id: first.id })
      expect(await findBackup(db, `latest:${host.host}/app`)).toMatchObject({ id: second.id })
      await expect(findBackup(db, first.id.slice(0, 9))).rejects.toMatchObject({ code: 'ambiguous' })
    })

    test.each(['zzzzz', '%', '_', "'; drop table backups", '', 'latest:nobody/app'])('and %j is not', async (text) => {
      await expect(findBackup(under.catalog.db, text)).rejects.toMatchObject({ code: 'not_found' })
    })
  })

  test('lists are filtered, newest first, and go on from a cursor', async () => {
    const { db } = under.catalog
    const host = await newHost()
    const made = [
      await newBackup(host),
      await newBackup(host, { type: 'incremental' }),
      await newBackup(host, { status: 'failed' }),
    ]
    const source = `${host.host}/app`
    const first = await listBackups(db, { source, limit: 2 })
    expect(first.items.map((row) => row.id)).toEqual([made[2]?.id, made[1]?.id])
    const rest = await listBackups(db, { source, limit: 2, cursor: first.next_cursor })
    expect(rest).toMatchObject({ items: [{ id: made[0]?.id }], next_cursor: null })
    expect((await listBackups(db, { source, type: 'incremental' })).items).toHaveLength(1)
    expect((await listBackups(db, { source, status: 'good' })).items).toHaveLength(2)
    expect(Object.keys(first.items[0] ?? {})).not.toContain('manifest')
  })

  test('only a committed backup can be good', async () => {
    const row = await newBackup(await newHost(), { status: 'running', manifestSha256: null })
    await expect(markGood(under.catalog.db, row.id, now())).rejects.toMatchObject({ code: 'job_state' })
  })

  test('a pin is of a backup that is still there', async () => {
    const { db } = under.catalog
    const row = await newBackup(await newHost())
    await setPinned(db, row.id, 'key:me', now())
    await expect(tombstone(db, row.id, 'test', now())).rejects.toMatchObject({ code: 'backup_in_use' })
    await setPinned(db, row.id, null, now())
    expect(await tombstone(db, row.id, 'test', now(), { keepLastGood: false })).toBe(true)
    await expect(setPinned(db, row.id, 'key:me', now())).rejects.toMatchObject({ code: 'not_found' })
  })

  test('the last good backup of a source is kept whoever asks: damaged ones beside it do not count, nor do two who ask at once', async () => {
    const { db } = under.catalog
    const host = await newHost()
    const damaged = await newBackup(host, { valid: false })
    const one = await newBackup(host)
    const kept = { code: 'backup_in_use', message: expect.stringContaining('last good one') }
    await expect(tombstone(db, one.id, 'test', now(), { keepLastGood: true })).rejects.toMatchObject(kept)
    const two = await newBackup(host, { valid: null })
    const asked = [one, two].map((row) => tombstone(db, row.id, 'test', now(), { keepLastGood: true }))
    const outcomes = await Promise.allSettled(asked)
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    const left = await newBackup(host)
    expect(await tombstone(db, damaged.id, 'test', now(), { keepLastGood: true })).toBe(true)
    expect(await getBackup(db, left.id)).toMatchObject({ status: 'good' })
  })

  describe('the ledger', () => {
    const object = (name: string, size = 1) => ({ name, size, sha256: Buffer.alloc(32, size) })

    test('gives an address again for the same object, and refuses the name for another', async () => {
      const { db } = under.catalog
      const row = await newBackup(await newHost())
      const later = new Date(now().getTime() + 60_000)
      await recordAddress(db, { id: row.id, attempt: 1 }, [object('packs/1-a'), object('contents')], later)
      await recordAddress(db, { id: row.id, attempt: 1 }, [object('packs/1-a')], now())
      expect((await objectsOf(db, row.id)).map((one) => [one.name, one.addressExpiresAt])).toEqual([
        ['contents', later],
        ['packs/1-a', later],
      ])
      await expect(recordAddress(db, { id: row.id, attempt: 1 }, [object('packs/1-a', 2)], later)).rejects.toMatchObject({
        code: 'object_conflict',
      })
    })

    test('an object that was not asked for is never believed', async () => {
      const { db } = under.catalog
      const row = await newBackup(await newHost())
      await recordAddress(db, { id: row.id, attempt: 1 }, [object('contents')], now())
      await confirmObjects(db, row.id, ['contents'], now())
      await expect(confirmObjects(db, row.id, ['contents', 'packs/1-b'], now())).rejects.toMatchObject({ code: 'object_missing' })
    })

    test('damaged packs are named by their keys; damage elsewhere makes a backup unreadable', async () => {
      const { db } = under.catalog
      const host = await newHost()
      const row = await newBackup(host)
      await recordAddress(db, { id: row.id, attempt: 1 }, [object('packs/1-a'), object('packs/1-b'), object('index')], now())
      await markDamaged(db, row.id, ['packs/1-b'], now())
      expect(await damagedPacks(db, [row.id])).toEqual([`${host.host}/app/${row.id}/packs/1-b`])
      expect(await unreadableAmong(db, [row.id])).toEqual(new Set())
      await markDamaged(db, row.id, ['index'], now())
      expect(await unreadableAmong(db, [row.id])).toEqual(new Set([row.id]))
    })

    test('takes thousands of objects in one call', async () => {
      const { db } = under.catalog
      const row = await newBackup(await newHost())
      const many = Array.from({ length: 12_000 }, (_, i) => object(`packs/1-${i}`))
      await recordAddress(db, { id: row.id, attempt: 1 }, many, now())
      await confirmObjects(
        db,
        row.id,
        many.map((one) => one.name),
        now(),
      )
      expect(await objectsOf(db, row.id)).toHaveLength(12_000)
    })
  })

  test('verified means judged by another than the host that made the backup; damage is believed of anyone', async () => {
    const { db } = under.catalog
    const host = await newHost()
    const row = await newBackup(host)
    const judge = (by: string, kind: 'validate' | 'verify' | 'test-restore', valid: boolean) =>
      recordVerification(db, {
        backupId: row.id,
        kind,
        jobId: null,
        by,
        startedAt: now(),
        finishedAt: now(),
        valid,
        errors: [],
        detail: {},
      })
    await judge(host.host, 'verify', true)
    await judge(host.host, 'test-restore', true)
    expect(await getBackup(db, row.id)).toMatchObject({ valid: null, verifiedAt: null, testRestoredAt: null })
    await judge('lab1', 'test-restore', true)
    await judge('lab1', 'verify', true)
    expect(await getBackup(db, row.id)).toMatchObject({ valid: true, verifiedBy: 'lab1', testRestoredBy: 'lab1' })
    await judge(host.host, 'verify', false)
    expect(await getBackup(db, row.id)).toMatchObject({ valid: false })
    // a sample that is well takes nothing back
    await judge('control-plane', 'validate', true)
    expect(await getBackup(db, row.id)).toMatchObject({ valid: false })
  })

  test('what the host itself found in order is told apart, and of a verification only what was whole', async () => {
    const { db } = under.catalog
    const host = await newHost()
    const row = await newBackup(host)
    const found = async (by: string, kind: 'verify' | 'test-restore', more: { valid?: boolean; detail?: object } = {}) => {
      await clock.advance(1000)
      const evidence = { backupId: row.id, kind, jobId: null, by, startedAt: now(), finishedAt: now(), errors: [] }
      await recordVerification(db, { ...evidence, valid: more.valid ?? true, detail: { ...more.detail } })
      return now()
    }
    const own = async () => (await ownLooks(db)).get(host.source.id)
    await found('lab1', 'verify')
    await found(host.host, 'verify', { valid: false })
    await found(host.host, 'verify', { detail: { packs: { needed: 3, chosen: 1 } } })
    expect(await own()).toBeUndefined()
    const whole = await found(host.host, 'verify', { detail: { packs: { needed: 3, chosen: 3 } } })
    expect(await own()).toEqual({ verifiedAt: whole, testRestoredAt: null })
    const restored = await found(host.host, 'test-restore')
    expect(await own()).toEqual({ verifiedAt: whole, testRestoredAt: restored })
  })

  test('a source that is no longer named keeps its row, and passes to the agent that replaces the host', async () => {
    const { db } = under.catalog
    const host = await newHost()
    const said = (name: string) => ({ name, engine: 'fake', labels: { env: 'test' }, facts: { odd: 'a\0b' } })
    await syncSources(db, host.agentId, [said('other')], now())
    expect(await findSource(db, `${host.host}/app`)).toMatchObject({ id: host.source.id, present: false })
    expect(await findSource(db, `${host.host}/other`)).toMatchObject({ present: true, labels: { env: 'test' } })
    expect(await listSources(db, { agentId: host.agentId, present: true })).toHaveLength(1)
    await expect(syncSources(db, host.agentId, [said('../etc')], now())).rejects.toMatchObject({ code: 'invalid_name' })
    await expect(findSource(db, `${host.host}/none`)).rejects.toMatchObject({ code: 'not_found' })
  })

  test('a policy counts its revisions, and a target that holds backups is not removed', async () => {
    const { db } = under.catalog
    const host = await newHost()
    await putTarget(db, { name: host.host, kind: 'local', config: { path: '/srv' } }, now())
    await putPolicy(db, host.host, { targets: [host.host], retention: { duration: '1d' } }, now())
    await putPolicy(db, host.host, { targets: [host.host] }, now())
    expect(await getPolicy(db, host.host)).toMatchObject({ revision: 2, spec: { targets: [host.host] } })
    const held = {
      source: host.source,
      type: 'full',
      target: host.host,
      jobId: 'none',
      parts: [],
      description: null,
      recipients: [],
    } as const
    await createBackup(db, held, now())
    await expect(deleteTarget(db, host.host)).rejects.toMatchObject({ code: 'conflict' })
    expect(await getTarget(db, host.host)).toMatchObject({ kind: 'local' })
    expect(await deleteTarget(db, 'nowhere')).toBe(false)
  })

  describe('a rebuilt catalog', () => {
    function found(host: string, sequence: number, leansOn: string[] = []): FoundManifest {
      const id = `2026010${sequence}T020000Z-${randomBase32(10)}`
      const facts = {
        ...{
          format: 1,
          fleet_id: 'f',
          host,
          source: 'app',
          engine: 'fake',
          id,
          attempt: 1,
          type: leansOn.length > 0 ? 'incremental' : 'full',
        },
        objects: [{ name: 'contents', size: 5, sha256: 'ab'.repeat(32) }],
        ...{ keys: [], recipients: ['age1x'], read_bytes: 10, stored_bytes: 5, total_count: 3 },
        leans_on: leansOn.map((base) => ({ host, source: 'app', id: base, manifest_sha256: '00'.repeat(32) })),
      }
      const commit = { fleet_id: 'f', committed_at: `2026-01-0${sequence}T02:05:00.000Z`, sequence, predecessor: null }
      const manifest = {
        facts,
        agent: { chain: ['x'], signature: 'x' },
        commit,
        fleet: { key: '0'.repeat(16), signature: 'x' },
      } as Manifest
      const bytes = Buffer.from(JSON.stringify(manifest))
      return { manifest, bytes, sha256: Buffer.alloc(32, sequence), target: 'primary', keys: true }
    }

    test('knows every backup of which there is a manifest, what it leans on, its objects, and the next sequence number', async () => {
      const { db } = under.catalog
      const full = found('gone1', 1)
      const next = found('gone1', 2, [full.manifest.facts.id])
      for (const one of [next, full, next]) await adoptBackup(db, one)
      for (const one of [next, full]) expect(await adoptLeans(db, one)).toEqual([])
      const row = await getBackup(db, next.manifest.facts.id)
      expect(row).toMatchObject({ status: 'good', type: 'incremental', valid: null, sequence: 2, copies: [{ state: 'good' }] })
      expect(row.createdAt).toEqual(new Date('2026-01-02T02:00:00Z'))
      expect(await closure(db, row.id)).toMatchObject([{ id: full.manifest.facts.id, manifestSha256: full.sha256 }])
      expect(await manifestOf(db, row.id)).toEqual({ bytes: next.bytes, sha256: next.sha256 })
      expect(await objectsOf(db, row.id)).toMatchObject([{ name: 'contents', size: 5, confirmedAt: expect.any(Date) }])
      expect(await findSource(db, 'gone1/app')).toMatchObject({ sequence: 2, present: false })
    })

    test('does not believe a backup that leans on something that is not there', async () => {
      const { db } = under.catalog
      const lonely = found('gone2', 2, ['20260101T020000Z-0000000000'])
      await adoptBackup(db, lonely)
      expect(await adoptLeans(db, lonely)).toEqual(['20260101T020000Z-0000000000'])
      expect(await getBackup(db, lonely.manifest.facts.id)).toMatchObject({ valid: false })
    })

    test('does not bring back what was marked for removal, and makes good what was committed in the last minute', async () => {
      const { db } = under.catalog
      const [removed, committed] = [found('gone3', 1), found('gone3', 2)]
      for (const one of [removed, committed]) await adoptBackup(db, one)
      await tombstone(db, removed.manifest.facts.id, 'test', now())
      await db.update(backups).set({ status: 'running' }).where(eq(backups.id, committed.manifest.facts.id))
      for (const one of [removed, committed]) await adoptBackup(db, one)
      expect(await getBackup(db, removed.manifest.facts.id)).toMatchObject({ status: 'expired' })
      expect(await getBackup(db, committed.manifest.facts.id)).toMatchObject({ status: 'good' })
    })
  })
})
