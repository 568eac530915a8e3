import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { Secret } from '../../shared/secret.ts'
import { describesBackup, FaultBench, treeHash, writeTree } from '../fault/bench.ts'
import { type PostgresServer, startPostgres } from '../harness/postgres.ts'
import type { StartedProcess } from '../harness/processes.ts'
import { seeded } from '../harness/seeded.ts'
import { startTcpProxy, type TcpProxy } from '../harness/tcp-proxy.ts'
import { waitFor } from '../harness/wait.ts'

/** Two control planes share a catalog, a keyring, agents and jobs. One may die or sleep at any moment: nothing is lost and nothing is done twice. */

let database: PostgresServer | null
let bench: FaultBench | null
let line: TcpProxy
let other: StartedProcess | undefined
let data: string

beforeAll(async () => {
  database = await startPostgres(15)
  if (!database) return
  const url = new URL(database.url('postgres'))
  url.password = encodeURIComponent(database.password)
  bench = await FaultBench.start({ catalog: { kind: 'postgres', url: new Secret(url.href) } })
  if (!bench) return
  const { holdfast } = bench
  data = path.join(holdfast.folder.path, 'data')
  await mkdir(path.join(data, 'tree'), { recursive: true })
  await writeTree(path.join(data, 'tree'), seeded(2), 1_500_000)
  line = await startTcpProxy(holdfast.server.ports.agents)
  const sources = { tree: { engine: 'files', path: path.join(data, 'tree') } }
  await holdfast.addAgent('db1', { sources }, { server: `127.0.0.1:${line.port}` })
})

afterEach(async () => {
  // a paused process takes no SIGTERM
  other?.kill('SIGCONT')
  await other?.stop()
  other = undefined
})

afterAll(async () => {
  await bench?.[Symbol.asyncDispose]()
  await line?.stop()
  await database?.stop()
})

function use(skip: (why: string) => never): FaultBench {
  return bench ?? skip('PostgreSQL or the S3 server cannot be had on this machine')
}

/** A second control plane, a program of its own, that holds the agent's stream when this resolves. */
async function otherHoldsStream(on: FaultBench): Promise<StartedProcess> {
  const started = await on.holdfast.startAnotherProcess('other', on.awsVariables)
  other = started
  const ports = started
    .output()
    .split('\n')
    .filter((text) => text.includes('control plane started'))
    .map((text) => JSON.parse(text) as { agents: number })
  moveLine(ports[0]?.agents ?? 0)
  await waitFor('the agent to be connected there', () => started.output().includes('agent connected'))
  return started
}

function moveLine(port: number): void {
  line.upstreamPort = port
  line.cut()
  line.mend()
}

async function expectGood(on: FaultBench, job: JobView): Promise<void> {
  const { operator } = on.holdfast
  expect(await operator.backup(job.backup_id ?? '')).toMatchObject({ status: 'good', valid: true })
  expect((await operator.validate(job.backup_id ?? '')).valid).toBe(true)
  const name = `copy-of-${job.id}`
  await operator.restore(job.backup_id ?? '', { target: `db1/${name}` })
  expect(await treeHash(path.join(data, name))).toBe(await treeHash(path.join(data, 'tree')))
}

it('one is killed while its agent makes a backup: the agent goes on with it at the other', async ({ skip }) => {
  const on = use(skip)
  const killed = await otherHoldsStream(on)
  const { caught, release } = on.catchOne(describesBackup)
  const job = await on.holdfast.operator.startBackup('db1/tree', 'full')
  await caught
  await killed.stop({ signal: 'SIGKILL' })
  moveLine(on.holdfast.server.ports.agents)
  await waitFor('the agent to have moved', () => on.holdfast.connected('db1').then(() => true))
  release()
  const over = await on.done(job)
  expect(over.attempt).toBe(1)
  await expectGood(on, over)
})

it('one is killed between commit and manifest: the other finishes the commit', async ({ skip }) => {
  const on = use(skip)
  const killed = await otherHoldsStream(on)
  const { caught, release } = on.catchOne(({ method, url }) => method === 'PUT' && url.includes('/manifest.json'))
  const job = await on.holdfast.operator.startBackup('db1/tree', 'full')
  await caught
  await killed.stop({ signal: 'SIGKILL' })
  release()
  moveLine(on.holdfast.server.ports.agents)
  const over = await on.clock.ahead(120_000, () => on.holdfast.operator.over(job))
  expect(over).toMatchObject({ status: 'succeeded', attempt: 1 })
  await expectGood(on, over)
})

it('one is paused in the middle of a commit and wakes when all is over: what it still writes changes nothing', async ({
  skip,
}) => {
  const on = use(skip)
  const paused = await otherHoldsStream(on)
  const { caught, release } = on.catchOne(({ method, url }) => method === 'PUT' && url.includes('/manifest.json'))
  const job = await on.holdfast.operator.startBackup('db1/tree', 'full')
  await caught
  paused.kill('SIGSTOP')
  moveLine(on.holdfast.server.ports.agents)
  const over = await on.clock.ahead(120_000, () => on.holdfast.operator.over(job))
  expect(over).toMatchObject({ status: 'succeeded', attempt: 1 })
  const before = await on.holdfast.operator.backup(over.backup_id ?? '')
  const lines = paused.output().length
  paused.kill('SIGCONT')
  release()
  await waitFor('it to give up the stream that has moved', () => paused.output().slice(lines).includes('agent disconnected'))
  expect(await on.holdfast.operator.job(job.id)).toEqual(over)
  expect(await on.holdfast.operator.backup(before.id)).toMatchObject({ status: 'good', valid: true, leans_on: before.leans_on })
  await expectGood(on, over)
})

it('a schedule that is due on two control planes at once fires once for each due time', async ({ skip }) => {
  const on = use(skip)
  const { holdfast, clock } = on
  const second = await holdfast.startAnother('second')
  try {
    // half an hour from now: with none but the two moves it becomes due
    const minute = (clock.now().getUTCMinutes() + 30) % 60
    const policy = { select: { sources: ['db1/tree'] }, targets: ['primary'], schedule: { full: `${minute} * * * *` } }
    await holdfast.operator.ask('PUT', '/api/v1/fleet', { policies: { hourly: policy } })
    const ofSchedule = async () => {
      const { items } = await holdfast.operator.ask<{ items: JobView[] }>('GET', '/api/v1/jobs?kind=backup&limit=500')
      return items.filter(({ policy: name }) => name === 'hourly')
    }
    for (const run of [1, 2]) {
      // both look at the same second of every ten
      clock.shiftMs += 3_600_000
      await waitFor(`run ${run} of the schedule`, async () => (await ofSchedule()).length >= run)
      for (const job of await ofSchedule()) await holdfast.operator.done(job)
    }
    expect(await ofSchedule()).toHaveLength(2)
  } finally {
    clock.shiftMs = 0
    await holdfast.operator.ask('PUT', '/api/v1/fleet', { policies: {} })
    await second.close()
  }
})
