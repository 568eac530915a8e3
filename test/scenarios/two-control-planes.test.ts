import { mkdir, readdir } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { Secret } from '../../shared/secret.ts'
import { describesBackup, FaultBench, rangeOf, treeHash, writeTree } from '../fault/bench.ts'
import type { TestAgent } from '../harness/holdfast.ts'
import { type PostgresServer, startPostgres } from '../harness/postgres.ts'
import type { StartedProcess } from '../harness/processes.ts'
import { seeded } from '../harness/seeded.ts'
import { startTcpProxy, type TcpProxy } from '../harness/tcp-proxy.ts'
import { waitFor } from '../harness/wait.ts'

/** Two control planes share a catalog, a keyring, agents and jobs. One may die or sleep at any moment: nothing is lost and nothing is done twice. */

let database: PostgresServer | null
let bench: FaultBench | null
let line: TcpProxy
let agent: TestAgent
let other: StartedProcess | undefined
let data: string
let restores = 0

beforeAll(async () => {
  database = await startPostgres(15)
  if (!database) return
  bench = await FaultBench.start({ catalog: { kind: 'postgres', url: catalogOf(database, 'postgres') } })
  if (!bench) return
  const { holdfast } = bench
  data = path.join(holdfast.folder.path, 'data')
  await mkdir(path.join(data, 'tree'), { recursive: true })
  await writeTree(path.join(data, 'tree'), seeded(2), 1_500_000)
  line = await startTcpProxy(holdfast.server.ports.agents)
  const sources = { tree: { engine: 'files', path: path.join(data, 'tree') } }
  agent = await holdfast.addAgent('db1', { sources }, { server: `127.0.0.1:${line.port}` })
})

function catalogOf(server: PostgresServer, role: string): Secret {
  const url = new URL(server.url('postgres', role))
  url.password = encodeURIComponent(server.password)
  return new Secret(url.href)
}

afterEach(async () => {
  // a paused process takes no SIGTERM
  other?.kill('SIGCONT')
  await other?.stop()
  other = undefined
  // where a test has failed before it did
  if (bench && line.upstreamPort !== bench.holdfast.server.ports.agents) await moveHere(bench)
})

afterAll(async () => {
  await bench?.[Symbol.asyncDispose]()
  await line?.stop()
  await database?.stop()
})

function use(skip: (why: string) => never): FaultBench {
  return bench ?? skip('PostgreSQL or the S3 server cannot be had on this machine')
}

function catalog(): PostgresServer {
  if (!database) throw new Error('a bench without its catalog')
  return database
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

/** How many streams the agent has had: one more says that another control plane holds it now. */
async function streams(): Promise<number> {
  const [row] = await catalog().sql<{ epoch: string }>('postgres', `select session_epoch as epoch from agents where name = 'db1'`)
  return Number(row?.epoch)
}

/** Once the control plane of this process holds the agent's stream. */
async function moveHere(on: FaultBench): Promise<void> {
  const before = await streams()
  moveLine(on.holdfast.server.ports.agents)
  await waitFor('the agent to have moved', async () => (await streams()) > before)
  await on.holdfast.connected('db1')
}

/** More than the end of a pack, and less than a block. */
const CONTENT_BYTES = 2 ** 17

interface Restoring {
  readonly job: JobView
  /** What the agent waits for goes on. */
  release(): void
  readonly name: string
  /** Of the process that restores. */
  readonly pid: number
}

/** A restore that has taken its command by the other control plane, has begun its tree, and lacks content. */
async function restoreInTheMiddle(on: FaultBench): Promise<Restoring> {
  const { operator } = on.holdfast
  const backup = await operator.backUp('db1/tree', 'full')
  restores += 1
  const name = `restored-${restores}`
  // the ends of packs are asked for before it begins
  const { caught, release } = on.catchOne((request) => rangeOf(request) > CONTENT_BYTES)
  const { id } = await operator.startRestore(backup.id, { target: `db1/${name}` })
  await caught
  const job = await waitFor('the restore to be at work', async () => {
    const seen = await operator.job(id)
    return seen.status === 'running' && seen
  })
  await waitFor('its tree to be begun', async () => (await drafts()).length > 0)
  expect(await readdir(data)).not.toContain(name)
  const pids = await agent.jobProcesses()
  expect(pids).toHaveLength(1)
  return { job, release, name, pid: pids[0] ?? 0 }
}

/** What is made beside a place until it is whole. */
const drafts = async () => (await readdir(data)).filter((name) => name.startsWith('.'))

/** Its events but for the progress, which is told anew to everyone who asks. */
const kept = async (on: FaultBench, { id }: JobView) =>
  (await on.holdfast.operator.events(id)).filter((event) => event.type !== 'progress')

/** Once, by the attempt that was given out first, whole, and with nothing beside it. */
async function expectRestored(on: FaultBench, over: JobView, name: string): Promise<void> {
  expect(over).toMatchObject({ status: 'succeeded', attempt: 1, error: null })
  expect(await treeHash(path.join(data, name))).toBe(await treeHash(path.join(data, 'tree')))
  expect(await drafts()).toEqual([])
  const states = (await kept(on, over)).flatMap(({ type, data }) => (type === 'state' ? [data.state] : []))
  expect(states).toEqual(['queued', 'dispatched', 'running', 'succeeded'])
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

it('one is killed while its agent restores: the agent goes on with it at the other', async ({ skip }) => {
  const on = use(skip)
  const killed = await otherHoldsStream(on)
  const { job, release, name, pid } = await restoreInTheMiddle(on)
  await killed.stop({ signal: 'SIGKILL' })
  await moveHere(on)
  // the same process, which has not been given a second one
  expect(await agent.jobProcesses()).toEqual([pid])
  expect(await on.holdfast.operator.job(job.id)).toMatchObject({ status: 'running', attempt: 1 })
  expect(await readdir(data)).not.toContain(name)
  release()
  await expectRestored(on, await on.done(job), name)
})

it('one is paused while its agent restores and wakes when all is over: what it still writes changes nothing', async ({
  skip,
}) => {
  const on = use(skip)
  const { operator } = on.holdfast
  const paused = await otherHoldsStream(on)
  const { job, release, name, pid } = await restoreInTheMiddle(on)
  paused.kill('SIGSTOP')
  release()
  // its result has gone to the one that sleeps, which reads it when it wakes
  await waitFor('the restore to end', async () => !(await agent.jobProcesses()).includes(pid))
  expect(await operator.job(job.id)).toMatchObject({ status: 'running', attempt: 1 })
  await moveHere(on)
  const over = await on.done(job)
  await expectRestored(on, over, name)
  const events = await kept(on, job)
  const [lines, epoch] = [paused.output().length, await streams()]
  paused.kill('SIGCONT')
  await waitFor('it to give up the stream that has moved', () => paused.output().slice(lines).includes('agent disconnected'))
  expect(await operator.job(job.id)).toEqual(over)
  expect(await kept(on, job)).toEqual(events)
  await expectRestored(on, over, name)
  // the agent has kept its stream, and what it is told there is done
  await operator.restore(job.backup_id ?? '', { target: `db1/again-${name}` })
  expect(await streams()).toBe(epoch)
  expect(await treeHash(path.join(data, `again-${name}`))).toBe(await treeHash(path.join(data, 'tree')))
})

/** The role by which the catalog tells what the other control plane asks from what this one does. */
const OTHER = 'other_plane'

/** Locks that a test takes to hold a control plane back in the middle of firing: before its row of the due time is made, or after, before the commit. */
async function gates() {
  const server = catalog()
  await server.sql(
    'postgres',
    `do $$ begin if not exists (select from pg_roles where rolname = '${OTHER}') then
       create role ${OTHER} superuser login password '${server.password.replaceAll("'", "''")}'; end if; end $$;
     create or replace function stand_at_gate() returns trigger language plpgsql as $$ begin
       perform pg_advisory_xact_lock_shared(hashtext(tg_when || ' ' || current_user)); return new; end $$;
     create or replace trigger gate_before before insert on occurrences for each row execute function stand_at_gate();
     create or replace trigger gate_after after insert on occurrences for each row execute function stand_at_gate()`,
  )
  const sql = server.connect('postgres')
  const key = (when: 'BEFORE' | 'AFTER', role: string) => sql`hashtext(${`${when} ${role}`})`
  return {
    close: async (when: 'BEFORE' | 'AFTER', role: string) => void (await sql`select pg_advisory_lock(${key(when, role)})`),
    open: async (when: 'BEFORE' | 'AFTER', role: string) => void (await sql`select pg_advisory_unlock(${key(when, role)})`),
    /** Until a transaction of that role which fires is as told; `over` when the role is in none at all. */
    until: (role: string, what: 'at a gate' | 'behind another' | 'answered' | 'over') =>
      waitFor(`${role} to be ${what}`, async () => {
        const rows = await sql<{ state: string; on: string | null; fires: boolean }[]>`
          select state, wait_event as on, query ilike '%insert into "occurrences"%' as fires
          from pg_stat_activity where usename = ${role} and xact_start is not null`
        if (what === 'over') return rows.length === 0
        return rows.some(({ state, on, fires }) => {
          if (!fires) return false
          if (what === 'answered') return state === 'idle in transaction'
          return what === 'at a gate' ? on === 'advisory' : on === 'transactionid' || on === 'spectoken'
        })
      }),
    end: () => sql.end({ timeout: 1 }),
  }
}

/** A policy that becomes due when the clock moves by an hour. Gives what it has fired so far. */
async function dueInAnHour(on: FaultBench, name: string): Promise<() => Promise<JobView[]>> {
  const minute = (on.clock.now().getUTCMinutes() + 30) % 60
  const policy = { select: { sources: ['db1/tree'] }, targets: ['primary'], schedule: { full: `${minute} * * * *` } }
  await on.holdfast.operator.ask('PUT', '/api/v1/fleet', { policies: { [name]: policy } })
  return async () => {
    const { items } = await on.holdfast.operator.ask<{ items: JobView[] }>('GET', '/api/v1/jobs?kind=backup&limit=500')
    return items.filter((job) => job.policy === name)
  }
}

async function fired(name: string): Promise<object[]> {
  return catalog().sql('postgres', `select outcome, job_id from occurrences where policy = '${name}'`)
}

async function startOther(on: FaultBench): Promise<StartedProcess> {
  const { awsVariables: env, holdfast, clock } = on
  other = await holdfast.startAnotherShifted('beside', clock, { catalog: catalogOf(catalog(), OTHER), env })
  return other
}

async function endSchedule(on: FaultBench, gate: Awaited<ReturnType<typeof gates>>): Promise<void> {
  await gate.end()
  on.clock.shiftMs = 0
  await on.holdfast.operator.ask('PUT', '/api/v1/fleet', { policies: {} })
}

it('one is killed while it fires a schedule: the other, which stood behind it, fires it, and once', async ({ skip }) => {
  const on = use(skip)
  const gate = await gates()
  try {
    const killed = await startOther(on)
    const jobs = await dueInAnHour(on, 'killed')
    await gate.close('AFTER', OTHER)
    await gate.close('BEFORE', 'postgres')
    on.clock.shiftMs += 3_600_000
    await gate.until(OTHER, 'at a gate')
    await gate.until('postgres', 'at a gate')
    await gate.open('BEFORE', 'postgres')
    await gate.until('postgres', 'behind another')
    await killed.stop({ signal: 'SIGKILL' })
    expect(await jobs()).toEqual([])
    await gate.open('AFTER', OTHER)
    const job = await waitFor('the other to fire', async () => (await jobs())[0])
    await expectGood(on, await on.done(job))
    expect(await jobs()).toHaveLength(1)
    expect(await fired('killed')).toEqual([{ outcome: 'fired', job_id: job.id }])
  } finally {
    await endSchedule(on, gate)
  }
})

it('one is paused while it fires a schedule, and wakes when the other has: it does not fire it a second time', async ({
  skip,
}) => {
  const on = use(skip)
  const gate = await gates()
  try {
    const paused = await startOther(on)
    const jobs = await dueInAnHour(on, 'paused')
    await gate.close('BEFORE', OTHER)
    await gate.close('BEFORE', 'postgres')
    on.clock.shiftMs += 3_600_000
    // both have found it due before either has fired it
    await gate.until(OTHER, 'at a gate')
    await gate.until('postgres', 'at a gate')
    paused.kill('SIGSTOP')
    await gate.open('BEFORE', 'postgres')
    const job = await waitFor('the other to fire', async () => (await jobs())[0])
    // a backup that is not finished would keep it from a second one as well
    await on.done(job)
    await gate.open('BEFORE', OTHER)
    await gate.until(OTHER, 'answered')
    paused.kill('SIGCONT')
    await gate.until(OTHER, 'over')
    expect(await jobs()).toHaveLength(1)
    expect(await fired('paused')).toEqual([{ outcome: 'fired', job_id: job.id }])
    await expectGood(on, await on.look(job.id))
  } finally {
    await endSchedule(on, gate)
  }
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
