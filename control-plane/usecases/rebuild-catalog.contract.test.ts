import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { eq } from 'drizzle-orm'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BackupSink } from '../../shared/artifacts.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import { createLogger } from '../../shared/log.ts'
import { manifestKey, objectKey } from '../../shared/manifest/layout.ts'
import type { Manifest } from '../../shared/manifest/manifest.ts'
import { pieces, seededBytes } from '../../shared/repository/testing/content.ts'
import { TestFleet } from '../../shared/repository/testing/fleet.ts'
import { openLocal } from '../../shared/storage/local/target.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { getBackup } from '../catalog/backups.ts'
import { claimJobs, claimValidations } from '../catalog/claim-jobs.ts'
import { connectHost } from '../catalog/fleet-fixture.ts'
import { createJob } from '../catalog/jobs.ts'
import { agents, backups } from '../catalog/schema/schema.ts'
import { findSource } from '../catalog/sources.ts'
import { destroyBackups } from './destroy-backups.ts'
import { adoptManifests, validateNewest } from './rebuild-catalog.ts'
import { withdrawManifests } from './withdraw-manifests.ts'

const log = createLogger({ level: 'silent' })

describe.each(await catalogsUnderTest())('a rebuilt catalog, $kind', ({ open }) => {
  let under: TestCatalog
  let target: StorageTarget
  let fleet: TestFleet
  let full: Manifest
  let next: Manifest
  const clock = new FakeClock('2026-02-01T00:00:00Z')
  const now = () => clock.now()

  beforeAll(async () => {
    fleet = await TestFleet.create()
    const chunking = { kind: 'content-defined', averageBytes: 4096 } as const
    const stream = (bytes: Buffer) => (sink: BackupSink) => sink.stream({ name: 'dump', chunking }, pieces(bytes))
    const first = seededBytes(1, 100_000)
    full = await fleet.backup(0, stream(first))
    next = await fleet.backup(1, stream(Buffer.concat([first, seededBytes(2, 50_000)])), { base: full })
  })

  beforeEach(async () => {
    under = await open()
    const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-rebuild-'))
    target = await openLocal(folder, { name: 'primary', clock, create: true })
    for (const [key, bytes] of fleet.objects.objects) await target.put(key, bytes)
    return async () => {
      await under.dispose()
      await target.close()
      await rm(folder, { recursive: true, force: true })
    }
  })

  const adopt = () => adoptManifests({ catalog: under.catalog, log, verifyingKey: fleet.verifyingKey, targets: [target] })
  const look = ({ facts }: Manifest) => getBackup(under.catalog.db, facts.id)
  const set = ({ facts }: Manifest, values: Partial<typeof backups.$inferInsert>) =>
    under.catalog.db.update(backups).set(values).where(eq(backups.id, facts.id))
  const deps = () => ({ catalog: under.catalog, log, target: async () => target })
  const removeKeys = ({ facts }: Manifest) => target.remove(objectKey(facts, 'keys/1'))

  /** What the next incremental of the source would lean on. */
  async function dispatched() {
    const { db } = under.catalog
    const source = await findSource(db, 'db1/app')
    await db.update(agents).set({ state: 'active' }).where(eq(agents.id, source.agentId))
    await connectHost(db, { agentId: source.agentId, host: 'db1', source, instanceId: 'cp1', epoch: 0 }, now())
    const spec = { kind: 'backup', type: 'incremental', target: 'primary' } as const
    const job = { spec, agentId: source.agentId, sourceId: source.id, requestedBy: 'test', maxAttempts: 1, deadlineSeconds: 60 }
    await createJob(db, job, now())
    const context = { instanceId: 'cp1', agentIds: [source.agentId], limits: { perAgent: 9, fleet: 99 }, leaseUntil: now() }
    const [claimed] = await claimJobs(db, { ...context, recipients: { fleet: fleet.recipient, recovery: [] } }, now())
    return claimed?.dispatch
  }

  const validations = async () => {
    await validateNewest(under.catalog.db, { maxAttempts: 3, jobDeadlineSeconds: 600 }, now())
    return (await claimValidations(under.catalog.db, 'cp1', now(), now())).map((job) => job.backupId)
  }

  test('believes what was committed, and has the newest of each source validated', async () => {
    expect(await adopt()).toEqual({ adopted: 2, refused: 0 })
    expect(await look(next)).toMatchObject({ status: 'good', valid: null, leansOn: [full.facts.id] })
    expect(await dispatched()).toMatchObject({ type: 'incremental', base: { id: next.facts.id } })
    expect(await validations()).toEqual([next.facts.id])
  })

  test('believes no listing: what it repeats is one backup, what it names and is not there is none', async () => {
    const removed = manifestKey({ ...full.facts, id: '20250101T000000Z-0123456789' })
    const list = target.list.bind(target)
    target.list = async function* (prefix, signal) {
      if (prefix === '') yield { key: removed, size: 1000, modified: new Date(0) }
      for await (const object of list(prefix, signal)) yield* [object, object]
    }
    expect(await adopt()).toEqual({ adopted: 2, refused: 1 })
    expect(await look(next)).toMatchObject({ status: 'good', leansOn: [full.facts.id], copies: [{ target: 'primary' }] })
  })

  test('validates nothing that the self-backup knows to be valid', async () => {
    await adopt()
    await set(next, { valid: true })
    await adopt()
    expect(await validations()).toEqual([])
  })

  test('never believes a backup that is known to have failed, though its manifest is still there, and removes that', async () => {
    await adopt()
    await set(next, { status: 'failed', withdrawnAt: now() })
    await adopt()
    expect(await look(next)).toMatchObject({ status: 'failed', withdrawnAt: null })
    expect(await withdrawManifests(deps(), now())).toEqual([])
    expect(await target.head(manifestKey(next.facts))).toBeNull()
    expect(await target.head(manifestKey(full.facts))).not.toBeNull()
    expect(await dispatched()).toMatchObject({ base: { id: full.facts.id } })
  })

  test('a manifest without keys reads as deleted, nothing leans on it, and what leaned on it is not valid', async () => {
    await removeKeys(full)
    await adopt()
    expect(await look(full)).toMatchObject({ status: 'expired', valid: false, retiredAt: expect.any(Date) })
    expect(await look(next)).toMatchObject({ status: 'good', valid: false })
    expect(await dispatched()).toMatchObject({ type: 'full', reason: 'base_damaged' })
  })

  test('one that was good a minute ago and has lost its keys is shown as not valid', async () => {
    await adopt()
    await removeKeys(next)
    await adopt()
    expect(await look(next)).toMatchObject({ status: 'good', valid: false })
    expect(await dispatched()).toMatchObject({ type: 'full', reason: 'base_damaged' })
  })

  test('keys that a rotation added are keys', async () => {
    const keys = await target.get(objectKey(next.facts, 'keys/1'))
    await removeKeys(next)
    await target.put(objectKey(next.facts, 'keys/2'), keys)
    await adopt()
    expect(await look(next)).toMatchObject({ status: 'good', valid: null })
  })

  test('what was removed and lies there again is removed again', async () => {
    await adopt()
    await set(next, { status: 'expired', tombstonedAt: now(), removedAt: now() })
    await adopt()
    expect(await look(next)).toMatchObject({ status: 'expired', removedAt: null })
    expect(await destroyBackups(deps(), now(), 0)).toEqual([next.facts.id])
    expect(await target.head(manifestKey(next.facts))).toBeNull()
  })
})
