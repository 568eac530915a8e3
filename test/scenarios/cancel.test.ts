import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { FaultBench, readsPack, storesPack } from '../fault/bench.ts'
import { tryCommand } from '../harness/commands.ts'
import type { SeenRequest } from '../harness/fault-proxy.ts'
import type { TestAgent } from '../harness/holdfast.ts'
import { type PostgresServer, startPostgres } from '../harness/postgres.ts'
import { isRunning } from '../harness/processes.ts'
import { waitFor } from '../harness/wait.ts'

/** Cancel works within seconds, ends the database tool and leaves nothing that anything believes in. */

/** One pack takes a quarter of an hour. */
const BYTES_PER_SECOND = 20_000
/** Half as much again as fits between the database and a store that takes nothing, so that the rows are never all read; it does not compress. */
const ROWS = 3200
const HASHES_PER_ROW = 400
/** Far below what the rest of the rows would take, and far above what a cancel takes. */
const ENDS_MS = 55_000
const MIDDLE_MS = 150_000

let bench: FaultBench
let server: PostgresServer
let agent: TestAgent
let good: BackupView

const present = async () => {
  const [s3, postgres] = [await FaultBench.start(), await startPostgres(18)]
  if (s3) bench = s3
  if (postgres) server = postgres
  return s3 !== null && postgres !== null
}

beforeAll(async () => {
  if (!(await present())) return
  await server.sql('postgres', 'create database app')
  await server.sql(
    'app',
    `create table big (id int primary key, body text not null);
     alter table big alter body set storage external;
     insert into big select row, encode((
         select string_agg(sha512(convert_to(row || ' ' || n, 'UTF8')), '') from generate_series(1, ${HASHES_PER_ROW}) n), 'base64')
       from generate_series(1, ${ROWS}) row`,
  )
  const source = { engine: 'postgres', url: server.url('app'), password: server.password, tools: [server.tools] }
  agent = await bench.holdfast.addAgent('db1', { sources: { app: source } })
})

afterAll(async () => {
  await bench?.[Symbol.asyncDispose]()
  await server?.stop()
})

beforeEach(({ skip }) => {
  if (!agent) skip('the S3 server or PostgreSQL cannot be had on this machine')
})

interface Middle {
  readonly job: JobView
  /** The job's process, which leads the group of all that it starts. */
  readonly group: number
}

/** Starts it on a slow line, and waits until the server and who reads or writes there are in the middle of the rows and wait for each other. */
async function inTheMiddle(
  start: () => Promise<JobView>,
  slow: (request: SeenRequest) => boolean,
  wait: string,
): Promise<Middle> {
  bench.proxy.script = (request) => (slow(request) ? { kind: 'slow', bytesPerSecond: BYTES_PER_SECOND } : { kind: 'pass' })
  const before = bench.proxy.seen.length
  const job = await start()
  const isCopying = () =>
    server.sql(
      'postgres',
      `select from pg_stat_activity
       where application_name like 'holdfast%' and query ilike 'copy%big%' and state = 'active' and wait_event = '${wait}'`,
    )
  await waitFor(
    'rows to be copied while the line is slow',
    async () => bench.proxy.seen.slice(before).some(slow) && (await isCopying()).length > 0,
    { timeoutMs: MIDDLE_MS },
  )
  const [group = 0] = await agent.jobProcesses()
  return { job, group }
}

/** Process ids and names. */
async function running(group: number): Promise<string[]> {
  const { stdout } = await tryCommand('pgrep', ['-l', '-g', String(group)])
  return stdout.split('\n').filter((line) => line !== '' && isRunning(Number.parseInt(line, 10)))
}

async function cancel({ job, group }: Middle): Promise<JobView> {
  await bench.holdfast.operator.ask('POST', `/api/v1/jobs/${job.id}/cancel`, {})
  const over = await bench.holdfast.operator.over(job, ENDS_MS)
  await waitFor('its process and its tools to be gone', async () => (await running(group)).length === 0)
  await waitFor('the server to have no session of it', async () => {
    const sessions = await server.sql('postgres', `select from pg_stat_activity where application_name like 'holdfast%'`)
    return sessions.length === 0
  })
  bench.proxy.script = () => ({ kind: 'pass' })
  return over
}

/** Manifests are what makes objects a backup. */
async function expectOnlyGood(ids: readonly string[]): Promise<void> {
  const { items } = await bench.holdfast.operator.ask<{ items: BackupView[] }>('GET', '/api/v1/backups?limit=500')
  expect(items.filter(({ status, valid }) => status === 'good' || valid).map(({ id }) => id)).toEqual(ids)
  const manifests = (await bench.keys()).filter((key) => key.endsWith('/manifest.json'))
  expect(manifests.map((key) => key.split('/').at(-2))).toEqual(ids)
}

async function databases(): Promise<string[]> {
  const rows = await server.sql<{ name: string }>(
    'postgres',
    `select datname as name from pg_database where not datistemplate and datname <> 'postgres' order by 1`,
  )
  return rows.map(({ name }) => name)
}

const contentOf = (database: string) =>
  server.sql(database, 'select count(*)::int as rows, sum(hashtextextended(body, id))::text as hash from big')

describe('a cancel in the middle of the rows', () => {
  it('of a backup ends its sessions; nothing counts as a backup, and the next one is good', async () => {
    const backup = await inTheMiddle(() => bench.holdfast.operator.startBackup('db1/app', 'full'), storesPack, 'ClientWrite')
    const over = await cancel(backup)
    expect(over).toMatchObject({ status: 'cancelled', attempt: 1, error: { code: 'job_cancelled' } })
    expect(await bench.holdfast.operator.backup(over.backup_id ?? '')).toMatchObject({ status: 'failed', valid: null })
    await expectOnlyGood([])
    good = await bench.holdfast.operator.backUp('db1/app', 'full')
    expect(good).toMatchObject({ status: 'good', type: 'full', valid: true })
    await expectOnlyGood([good.id])
  })

  it('of a restore leaves no database under the name of the target, nor one half made, and the next one has it', async () => {
    const start = () => bench.holdfast.operator.startRestore(good.id, { target: 'db1/copy' })
    const restore = await inTheMiddle(start, readsPack, 'ClientRead')
    expect(await running(restore.group)).toEqual(expect.arrayContaining([expect.stringMatching(/ psql$/)]))
    expect(await databases()).toEqual(['app', expect.stringMatching(/^copy_holdfast_/)])
    expect(await cancel(restore)).toMatchObject({ status: 'cancelled', attempt: 1, error: { code: 'job_cancelled' } })
    expect(await databases()).toEqual(['app'])
    await expectOnlyGood([good.id])
    await bench.holdfast.operator.done(await start())
    expect(await databases()).toEqual(['app', 'copy'])
    expect(await contentOf('copy')).toEqual(await contentOf('app'))
  })
})
