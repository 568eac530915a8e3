import { appendFile, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { eq, sql } from 'drizzle-orm'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { createLogger } from '../../shared/log.ts'
import { catalogsUnderTest, openTestCatalog, type TestCatalog } from '../../test/harness/catalogs.ts'
import { waitFor } from '../../test/harness/wait.ts'
import { appendAudit, verifyAudit } from './audit.ts'
import { createBackup, getBackup } from './backups.ts'
import type { Db } from './catalog.ts'
import { claimJobs } from './claim-jobs.ts'
import { makeHost } from './fleet-fixture.ts'
import { createJob, getJob } from './jobs.ts'
import { keepSelfBackup } from './keep-self-backup.ts'
import { putPolicy, putTarget } from './policies.ts'
import { backups } from './schema/schema.ts'
import { SELF_BACKUP_TABLES, writeSelfBackup } from './self-backup.ts'
import { readSelfBackupIndex, restoreFromSelfBackup, settleRestored } from './self-restore.ts'
import { rowsOf } from './sql.ts'

const catalogs = await catalogsUnderTest()
const at = new Date('2026-11-21T02:00:00.123Z')

describe.each(catalogs)('self-backup, $kind', ({ open }) => {
  let under: TestCatalog
  let folder: string
  beforeAll(async () => {
    under = await open()
  })
  afterAll(() => under.dispose())
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'holdfast-self-backup-'))
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  const contentOf = async (db: Db) => {
    const tables: Record<string, unknown[]> = {}
    for (const { table, without } of SELF_BACKUP_TABLES) {
      const row = without ? sql`to_jsonb(t) - ${without}::text` : sql`to_jsonb(t)`
      tables[table] = await rowsOf(db, sql`select (${row})::text as row from ${sql.identifier(table)} t order by 1`)
    }
    return tables
  }

  async function fill(db: Db) {
    const host = await makeHost(db, at)
    await putTarget(db, { name: `t-${host.host}`, kind: 'local', config: { path: '/srv' } }, at)
    await putPolicy(db, host.host, { targets: [`t-${host.host}`], select: { labels: { odd: '\\ "names" \u2028 ü' } } }, at)
    const spec = { kind: 'backup', type: 'full', target: 'primary' } as const
    const job = {
      spec,
      agentId: host.agentId,
      sourceId: host.source.id,
      requestedBy: 'test',
      maxAttempts: 3,
      deadlineSeconds: 60,
    }
    const { id } = await createJob(db, job, at)
    const backup = await createBackup(
      db,
      { source: host.source, type: 'full', target: 'primary', jobId: id, parts: ['a"b'], description: null, recipients: [] },
      at,
    )
    await db
      .update(backups)
      .set({ manifest: Buffer.from('manifest'), manifestSha256: Buffer.alloc(32, 7) })
      .where(eq(backups.id, backup.id))
    await db.transaction((tx) => appendAudit(tx, { actor: 'test', action: 'a', subject: 's', outcome: 'done', detail: {} }, at))
    return { host, jobId: id, backupId: backup.id }
  }

  test('what manifests do not hold comes back as it was', async () => {
    const { backupId } = await fill(under.catalog.db)
    await writeSelfBackup(under.catalog, folder, null)
    const fresh = await openTestCatalog()
    expect(await restoreFromSelfBackup(fresh.catalog.db, folder)).toBe(true)
    expect(await contentOf(fresh.catalog.db)).toEqual(await contentOf(under.catalog.db))
    expect(await verifyAudit(fresh.catalog.db)).toMatchObject({ errors: [] })
    expect((await getBackup(fresh.catalog.db, backupId)).manifestSha256).toEqual(Buffer.alloc(32, 7))
    await expect(restoreFromSelfBackup(fresh.catalog.db, folder)).rejects.toMatchObject({ code: 'conflict' })
    await fresh.dispose()
  })

  test('a file that did not change is not written again, one that did is, and what is not named is removed', async () => {
    await fill(under.catalog.db)
    const first = await writeSelfBackup(under.catalog, folder, null)
    expect(await writeSelfBackup(under.catalog, folder, first)).toBe(first)
    await under.catalog.db.execute(sql`update agents set version = 'next'`)
    const second = await writeSelfBackup(under.catalog, folder, first)
    const changed = second.files.filter((file) => !first.files.includes(file)).map((file) => file.table)
    expect(changed).toEqual(['agents'])
    expect((await readdir(folder)).toSorted()).toEqual(['index.json', ...second.files.map((file) => file.name)].toSorted())
    await under.catalog.db.execute(sql`delete from audit_entries where sequence = (select max(sequence) from audit_entries)`)
    const third = await writeSelfBackup(under.catalog, folder, second)
    expect(third.files.filter((file) => !second.files.includes(file)).map((file) => file.table)).toEqual(['audit_entries'])
    await under.catalog.db.execute(sql`delete from audit_entries`)
    await under.catalog.db.execute(sql`delete from audit_head`)
  })

  test('a self-backup that is damaged or of another schema fills nothing', async () => {
    await fill(under.catalog.db)
    const index = await writeSelfBackup(under.catalog, folder, null)
    const fresh = await openTestCatalog()
    const { db } = fresh.catalog
    const file = path.join(folder, index.files.find((one) => one.table === 'policies')?.name ?? '')
    const whole = await readFile(file)
    await appendFile(file, '{}\n')
    await expect(restoreFromSelfBackup(db, folder)).rejects.toMatchObject({ code: 'catalog_damaged' })
    await rm(file)
    await expect(restoreFromSelfBackup(db, folder)).rejects.toMatchObject({ code: 'catalog_damaged' })
    expect(await rowsOf(db, sql`select 1 from agents`)).toEqual([])
    await appendFile(file, whole)
    const indexFile = path.join(folder, 'index.json')
    const text = await readFile(indexFile, 'utf8')
    await rm(indexFile)
    expect(await readSelfBackupIndex(folder)).toBeNull()
    expect(await restoreFromSelfBackup(db, folder)).toBe(false)
    await appendFile(indexFile, text.replace('"migrations":["', '"migrations":["0'))
    await expect(restoreFromSelfBackup(db, folder)).rejects.toMatchObject({ code: 'catalog_newer' })
    await fresh.dispose()
  })

  test('after a rebuild nothing that was under way counts, and no attempt or epoch is given out a second time', async () => {
    const { host, jobId, backupId } = await fill(under.catalog.db)
    await writeSelfBackup(under.catalog, folder, null)
    const fresh = await openTestCatalog()
    const { db } = fresh.catalog
    await restoreFromSelfBackup(db, folder)
    await settleRestored(db, at)
    expect(await getJob(db, jobId)).toMatchObject({ state: 'failed', errorCode: 'job_lost' })
    expect(await getBackup(db, backupId)).toMatchObject({ status: 'failed' })
    const [agent] = await rowsOf<{ epoch: number }>(
      db,
      sql`select session_epoch::int as epoch from agents where id = ${host.agentId}`,
    )
    expect(agent?.epoch).toBeGreaterThan(host.epoch + 1)
    await fresh.dispose()
  })

  test('a restore that was under way waits for its agent or an operator, also after a rebuild', async () => {
    const { db } = under.catalog
    const { host, backupId } = await fill(db)
    await db.update(backups).set({ status: 'good' }).where(eq(backups.id, backupId))
    const spec = { kind: 'restore', backup_id: backupId, via_source: 'app' } as const
    const place = `${host.host}/app`
    const job = await createJob(
      db,
      { spec, agentId: host.agentId, requestedBy: 'test', maxAttempts: 3, deadlineSeconds: 60, place },
      at,
    )
    const { instanceId, agentId } = host
    const limits = { perAgent: 99, fleet: 9999 }
    const claimed = await claimJobs(
      db,
      { instanceId, agentIds: [agentId], limits, recipients: { fleet: 'age1fleet', recovery: [] }, leaseUntil: at },
      at,
    )
    expect(claimed.map((one) => one.job.id)).toContain(job.id)
    await writeSelfBackup(under.catalog, folder, null)
    const fresh = await openTestCatalog()
    await restoreFromSelfBackup(fresh.catalog.db, folder)
    await settleRestored(fresh.catalog.db, at)
    expect(await getJob(fresh.catalog.db, job.id)).toMatchObject({ state: 'lost', finishedAt: null, attempt: 1001 })
    await fresh.dispose()
  })

  test('it is made at once on a change of policy, and by the clock at most a minute after any other', async () => {
    const clock = new FakeClock(at)
    const kept = await keepSelfBackup(under.catalog, folder, { clock, log: createLogger({ level: 'silent' }) })
    const markOf = async (table: string) =>
      (await readSelfBackupIndex(folder))?.files.find((file) => file.table === table)?.sha256
    const resting = () => waitFor('the keeper to rest', () => clock.sleeping === 1)
    await resting()
    const before = await markOf('policies')
    await putPolicy(under.catalog.db, 'changed', { targets: ['primary'] }, at)
    await waitFor('the policy in the self-backup', async () => (await markOf('policies')) !== before)
    await resting()
    const agents = await markOf('agents')
    await under.catalog.db.execute(sql`update agents set version = 'later'`)
    await clock.advance(59_000)
    await waitFor('the agent in the self-backup', async () => (await markOf('agents')) !== agents)
    await under.catalog.db.execute(sql`update agents set version = 'last'`)
    const last = await markOf('agents')
    await kept.stop()
    expect(await markOf('agents')).not.toBe(last)
  })
})
