import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { type PostgresServer, startPostgres } from '../harness/postgres.ts'
import { samePostgres, stableDump } from '../harness/postgres-fixture.ts'
import { waitFor } from '../harness/wait.ts'
import { FaultBench, readsPack } from './bench.ts'

/** The database's own server dies, all its processes at once, while it is read or written. */

const APP = 'app'
let bench: FaultBench | null
let server: PostgresServer | null
let before: string
let good: BackupView
let copies = 0

beforeAll(async () => {
  ;[bench, server] = [await FaultBench.start(), await startPostgres(16)]
  if (!bench || !server) return
  await server.sql('postgres', `create database ${APP}`)
  // long enough to be read that the middle of it can be met
  await server.sql(
    APP,
    `create table big (id int primary key, body text not null);
     insert into big select n, string_agg(md5(n::text || k::text), '') from generate_series(1, 12000) n, generate_series(1, 60) k group by n;
     create table small (id int primary key references big);
     insert into small select generate_series(1, 1000)`,
  )
  const source = { engine: 'postgres', url: server.url(APP), password: server.password, tools: [server.tools] }
  await bench.holdfast.addAgent('db1', { sources: { app: source } })
  before = await stableDump(server, APP)
  good = await bench.holdfast.operator.backUp('db1/app', 'full')
})

afterAll(async () => {
  await bench?.[Symbol.asyncDispose]()
  await server?.stop()
})

function use(skip: (why: string) => never): { on: FaultBench; server: PostgresServer } {
  if (bench && server) return { on: bench, server }
  return skip('the S3 server or PostgreSQL cannot be had on this machine')
}

/** A backup that is reading the rows of the big table. */
async function backupInTheMiddle(on: FaultBench, server: PostgresServer): Promise<JobView> {
  const job = await on.holdfast.operator.startBackup('db1/app', 'full')
  await copying(server)
  return job
}

/** A restore that is writing the rows of the big table, which come in slowly. */
async function restoreInTheMiddle(on: FaultBench, server: PostgresServer): Promise<{ job: JobView; target: string }> {
  copies += 1
  const target = `copy_${copies}`
  on.proxy.script = (request) => (readsPack(request) ? { kind: 'slow', bytesPerSecond: 1_000_000 } : { kind: 'pass' })
  const job = await on.holdfast.operator.startRestore(good.id, { target: `db1/${target}` })
  await copying(server)
  return { job, target }
}

/** It stays in the middle: who copies is stopped, and gets no further before the server is killed. */
async function copying(server: PostgresServer): Promise<void> {
  const sql = server.connect('postgres')
  const copies = () =>
    sql<{ pid: number }[]>`
      select pid from pg_stat_activity where application_name like 'holdfast%' and state = 'active' and query ilike 'copy%big%'`
  try {
    const found = await waitFor(
      'rows to be copied',
      async () => {
        const rows = await copies()
        return rows.length > 0 && rows
      },
      { everyMs: 2 },
    )
    for (const { pid } of found) process.kill(pid, 'SIGSTOP')
  } finally {
    await sql.end({ timeout: 1 })
  }
}

async function databases(server: PostgresServer): Promise<string[]> {
  const rows = await server.sql<{ name: string }>(
    'postgres',
    `select datname as name from pg_database where not datistemplate and datname not in ('postgres', '${APP}') order by 1`,
  )
  return rows.map(({ name }) => name)
}

async function expectUnharmed(server: PostgresServer): Promise<void> {
  expect(await stableDump(server, APP)).toBe(before)
}

/** Manifests are what makes objects a backup: as many as there are good ones. */
async function expectOnlyGoodOnes(on: FaultBench): Promise<void> {
  const { items } = await on.holdfast.operator.ask<{ items: BackupView[] }>('GET', '/api/v1/backups?limit=500')
  const known = items.filter(({ status }) => status === 'good').map(({ id }) => id)
  const manifests = (await on.keys()).filter((key) => key.endsWith('/manifest.json')).map((key) => key.split('/').at(-2))
  expect(manifests.sort()).toEqual(known.sort())
}

async function expectRestores(on: FaultBench, server: PostgresServer, id: string): Promise<void> {
  copies += 1
  const target = `copy_${copies}`
  await on.done(await on.holdfast.operator.startRestore(id, { target: `db1/${target}` }))
  expect(await samePostgres({ server, database: APP }, { server, database: target })).toBeNull()
  // what killed restores left beside is gone with the next one
  expect((await databases(server)).filter((name) => !name.startsWith('copy_'))).toEqual([])
  await server.sql('postgres', `drop database ${target}`)
}

/** Found before the last attempt read or wrote anything. */
const AWAY = { code: 'preflight_failed', message: expect.stringContaining('source_unreachable') }

describe('kill -9 of postgresql in a backup', () => {
  it('ends the attempt with its reason; tried again with the server back it is good', async ({ skip }) => {
    const { on, server } = use(skip)
    const job = await backupInTheMiddle(on, server)
    await server.kill()
    await waitFor('the attempt to end', async () => (await on.look(job.id)).status === 'queued')
    await server.restart()
    const over = await on.done(job)
    expect(over.attempt).toBe(2)
    expect(await on.failures(job)).toContain('source_unreachable')
    await expectUnharmed(server)
    await expectOnlyGoodOnes(on)
    await expectRestores(on, server, over.backup_id ?? '')
  })

  it('fails it when the server stays away, nothing counts as a backup, and the next one is good', async ({ skip }) => {
    const { on, server } = use(skip)
    const job = await backupInTheMiddle(on, server)
    await server.kill()
    const over = await on.over(job)
    expect(over).toMatchObject({ status: 'failed', attempt: 3, error: AWAY })
    expect(await on.holdfast.operator.backup(over.backup_id ?? '')).toMatchObject({ status: 'failed' })
    await expectOnlyGoodOnes(on)
    await server.restart()
    await expectUnharmed(server)
    const next = await on.holdfast.operator.backUp('db1/app', 'incremental')
    await expectRestores(on, server, next.id)
  })
})

describe('kill -9 of postgresql in a restore into it', () => {
  it('ends the attempt with its reason; tried again with the server back it is whole', async ({ skip }) => {
    const { on, server } = use(skip)
    const { job, target } = await restoreInTheMiddle(on, server)
    await server.kill()
    await waitFor('the attempt to end', async () => (await on.look(job.id)).status === 'queued')
    on.proxy.script = () => ({ kind: 'pass' })
    await server.restart()
    expect(await databases(server)).not.toContain(target)
    const over = await on.done(job)
    expect(over.attempt).toBe(2)
    expect(await on.failures(job)).toContain('source_unreachable')
    expect(await databases(server)).toEqual([target])
    expect(await samePostgres({ server, database: APP }, { server, database: target })).toBeNull()
    await expectUnharmed(server)
    await server.sql('postgres', `drop database ${target}`)
  })

  it('fails it when the server stays away, and leaves nothing under the name of the target', async ({ skip }) => {
    const { on, server } = use(skip)
    const { job, target } = await restoreInTheMiddle(on, server)
    await server.kill()
    on.proxy.script = () => ({ kind: 'pass' })
    expect(await on.over(job)).toMatchObject({ status: 'failed', attempt: 3, error: AWAY })
    await server.restart()
    expect(await databases(server)).not.toContain(target)
    await expectUnharmed(server)
    await expectRestores(on, server, good.id)
  })
})
