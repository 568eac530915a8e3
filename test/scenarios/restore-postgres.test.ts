import { readdir } from 'node:fs/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import type { BackupDetail, TestRestoreDetail, VerifyDetail } from '../../shared/results.ts'
import type { Operator } from '../harness/operator.ts'
import { type PostgresMajor, type PostgresServer, standingPostgres } from '../harness/postgres.ts'
import { firstDifference, makeOddDatabase, type OddDatabase, samePostgres, stableDump } from '../harness/postgres-fixture.ts'
import { joinMoment } from '../harness/postgres-moment.ts'
import { type StoreKind, standingOnTwoStores } from '../harness/two-stores.ts'

/**
 * A database with everything in it, under writes, backed up by one host and restored by another one, on a server that has never
 * seen its roles, under another name. The judge is pg_dump.
 */
describe.each<PostgresMajor>([15, 18])('postgresql %s', async (major) => {
  const server = await standingPostgres(major)
  const elsewhere = await standingPostgres(major)
  if (server === null || elsewhere === null) {
    it.skip('cannot be had on this machine', () => undefined)
    return
  }
  const stores = await standingOnTwoStores()
  const operator = () => stores.holdfast.operator
  let odd: OddDatabase

  beforeAll(async () => {
    odd = await makeOddDatabase(server)
    await elsewhere.sql('postgres', 'create database own')
    const source = (on: PostgresServer, database: string) => ({
      engine: 'postgres',
      url: on.url(database),
      password: on.password,
      tools: [on.tools],
    })
    const app = source(server, odd.name)
    await stores.holdfast.addAgent('db1', { sources: { 'app-local': app, 'app-s3': app } })
    await stores.holdfast.addAgent('db2', { restores_from: ['*'], sources: { own: source(elsewhere, 'own') } })
  })

  describe.each<StoreKind>(['local', 's3'])('on a %s target', (kind) => {
    it.skipIf(kind === 's3' && stores.s3 === null)(
      'full and incremental under writes are each one moment of the database, on another host too',
      async () => {
        const writers = odd.keepWriting()
        const full = await backUpAtMoment(operator(), server, { database: odd.name, source: `db1/app-${kind}`, type: 'full' })
        const next = await backUpAtMoment(operator(), server, {
          database: odd.name,
          source: `db1/app-${kind}`,
          type: 'incremental',
        })
        expect(await writers.stop()).toBeGreaterThan(20)
        expect(full.backup).toMatchObject({ type: 'full', valid: true, leans_on: [], copies: [{ target: targetOf[kind] }] })
        expect(next.backup).toMatchObject({ type: 'incremental', valid: true, leans_on: [full.backup.id] })
        expect(next.backup.stored_bytes).toBeLessThan((full.backup.stored_bytes ?? 0) / 2)
        expect((next.backup.job.detail as BackupDetail).chunks_skipped).toBeGreaterThan(0)
        expect(firstDifference(full.dump, next.dump)).not.toBeNull()

        for (const { backup, dump } of [full, next]) {
          const copy = `${kind}.${backup.type}`
          const restored = await operator().restore(backup.id, { target: `db2/${copy}` })
          expect(restored).toMatchObject({ agent: 'db2', detail: { checked: true } })
          expect(firstDifference(await stableDump(elsewhere, copy, { sequences: false }), dump)).toBeNull()
          expect(await elsewhere.sql(copy, 'select sum(balance)::int as sum from app.accounts')).toEqual([{ sum: 0 }])
        }
      },
    )

    it.skipIf(kind === 's3' && stores.s3 === null)(
      'a differential leans only on the full, and a quiet database comes back whole from it, values of sequences included',
      async () => {
        const backup = await operator().backUp(`db1/app-${kind}`, 'differential')
        const [full] = (await operator().ask<{ items: BackupView[] }>('GET', `/api/v1/backups?source=db1/app-${kind}&type=full`))
          .items
        expect(backup).toMatchObject({ type: 'differential', valid: true, leans_on: [full?.id] })
        await operator().restore(backup.id, { target: `db2/${kind}.quiet` })
        const copy = { server: elsewhere, database: `${kind}.quiet` }
        expect(await samePostgres({ server, database: odd.name }, copy)).toBeNull()
      },
    )
  })

  it('verify reads every byte that an incremental needs, and a test restore counts every row again and leaves no database', async () => {
    const full = await newest('full')
    const backup = await newest('incremental')
    expect(backup.leans_on).toEqual([full.id])
    const verify = (await operator().verify(backup.id)).detail as VerifyDetail
    expect(verify).toMatchObject({ valid: true, plan_only: false, errors: [] })
    expect(verify.packs).toMatchObject({ chosen: verify.packs?.needed, chosen_bytes: verify.packs?.needed_bytes })
    expect(verify.bytes_checked).toBeGreaterThan(backup.stored_bytes ?? 0)
    expect(verify.objects_checked).toBeGreaterThan(2)

    const before = await databases()
    const test = (await operator().testRestore(backup.id, 'db2/own')).detail as TestRestoreDetail
    expect(test).toMatchObject({ valid: true, findings: [] })
    expect(test.total.parts).toBeGreaterThan(30)
    expect(test.total.expected).toBeGreaterThan(100)
    expect(test.total.found).toBe(test.total.expected)
    expect(test.found.counts).toEqual(test.expected.counts)
    expect(await databases()).toEqual(before)
    expect(await operator().backup(backup.id)).toMatchObject({ verified_by: 'db2', test_restored_by: 'db2' })
  })

  it('a dry run says what a full and an incremental would read and store, and stores nothing', async () => {
    const state = async () => ({
      objects: (await readdir(stores.holdfast.storeFolder, { recursive: true })).sort(),
      backups: (await operator().ask<{ items: BackupView[] }>('GET', '/api/v1/backups?limit=500')).items.map(({ id }) => id),
    })
    const dryRun = async (type: 'full' | 'incremental') => {
      const job = await operator().done(await operator().startBackup('db1/app-local', type, { dry_run: true }))
      expect(job.backup_id).toBeNull()
      return job.detail as BackupDetail
    }
    const before = await state()
    const full = await dryRun('full')
    const incremental = await dryRun('incremental')
    expect(full).toMatchObject({ dry_run: true, type: 'full', chunks_skipped: 0 })
    expect(incremental.read_bytes).toBeGreaterThan(full.stored_bytes)
    expect(full.stored_bytes).toBeGreaterThan(100_000)
    expect(full.read_bytes).toBeGreaterThan(full.stored_bytes)
    expect(incremental).toMatchObject({ dry_run: true, type: 'incremental' })
    expect(incremental.chunks_skipped).toBeGreaterThan(0)
    expect(incremental.stored_bytes).toBeLessThan(full.stored_bytes / 2)
    expect(await state()).toEqual(before)
  })

  async function newest(type: BackupView['type']): Promise<BackupView> {
    const { items } = await operator().ask<{ items: BackupView[] }>('GET', `/api/v1/backups?source=db1/app-local&type=${type}`)
    const [backup] = items
    if (!backup) throw new Error(`there is no ${type} backup`)
    return backup
  }

  async function databases(): Promise<string[]> {
    const rows = await elsewhere?.sql<{ name: string }>('postgres', 'select datname as name from pg_database order by 1')
    return (rows ?? []).map(({ name }) => name)
  }
})

const targetOf = { local: 'primary', s3: 'bucket' } as const

/** A backup made now, and pg_dump of what it saw, taken while writers went on. */
async function backUpAtMoment(
  operator: Operator,
  server: PostgresServer,
  of: { database: string; source: string; type: 'full' | 'incremental' },
) {
  const [job, moment] = await Promise.all([operator.startBackup(of.source, of.type), joinMoment(server, of.database)])
  const dump = await stableDump(server, of.database, { snapshot: moment.snapshot, sequences: false })
  await moment.release()
  const done = await operator.done(job)
  return { backup: { ...(await operator.backup(done.backup_id ?? '')), job: done }, dump }
}
