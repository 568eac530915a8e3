import { mkdir, readdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import type { RestoreDetail } from '../../shared/results.ts'
import type { TestAgent } from '../harness/holdfast.ts'
import { isRunning, type StartedProcess } from '../harness/processes.ts'
import { seeded } from '../harness/seeded.ts'
import { startTcpProxy, type TcpProxy } from '../harness/tcp-proxy.ts'
import { waitFor } from '../harness/wait.ts'
import { describesBackup, FaultBench, rangeOf, readsPack, treeHash, writeTree } from './bench.ts'

/** Whatever dies in the middle: the job ends good and byte for byte the same, and what failed on the way is to be seen. */

/** Of a tree whose blocks, of a mebibyte, are many. */
const LARGE_BYTES = 12_000_000
const BLOCK_BYTES = 2 ** 20

let bench: FaultBench | null
let line: TcpProxy
let agent: TestAgent
let data: string
let tree: string
let restores = 0
/** Of what the tree holds: its own in each test, and the same in each run. */
let contents = 1

beforeAll(async () => {
  bench = await FaultBench.start()
  if (!bench) return
  const { holdfast } = bench
  data = path.join(holdfast.folder.path, 'data')
  tree = path.join(data, 'tree')
  await mkdir(tree, { recursive: true })
  await writeTree(tree, seeded(contents), 2_000_000)
  line = await startTcpProxy(holdfast.server.ports.agents)
  const sources = { tree: { engine: 'files', path: tree } }
  agent = await holdfast.addAgent('db1', { sources }, { server: `127.0.0.1:${line.port}` })
})

afterAll(async () => {
  await bench?.[Symbol.asyncDispose]()
  await line?.stop()
})

function use(skip: (why: string) => never): FaultBench {
  return bench ?? skip('the S3 server cannot be had on this machine')
}

/** A backup whose packs are all stored and that cannot go on. */
async function backupInTheMiddle(on: FaultBench): Promise<{ job: JobView; release: () => void }> {
  // other content each time, so that each full has bytes of its own to count
  contents += 1
  await writeTree(tree, seeded(contents), 2_000_000)
  const { caught, release } = on.catchOne(describesBackup)
  const job = await on.holdfast.operator.startBackup('db1/tree', 'full')
  await caught
  return { job, release }
}

async function restoreInTheMiddle(
  on: FaultBench,
): Promise<{ job: JobView; release: () => void; copy: string; backup: BackupView }> {
  const backup = await on.holdfast.operator.backUp('db1/tree', 'full')
  restores += 1
  const name = `copy-${restores}`
  const { caught, release } = on.catchOne(readsPack)
  const job = await on.holdfast.operator.startRestore(backup.id, { target: `db1/${name}` })
  await caught
  return { job, release, copy: path.join(data, name), backup }
}

async function expectGood(on: FaultBench, job: JobView): Promise<void> {
  const backup = await on.holdfast.operator.backup(job.backup_id ?? '')
  expect(backup).toMatchObject({ status: 'good', valid: true })
  restores += 1
  const name = `copy-${restores}`
  await on.holdfast.operator.restore(backup.id, { target: `db1/${name}` })
  expect(await treeHash(path.join(data, name))).toBe(await treeHash(tree))
  await expectNothingLeft(on)
}

/** Manifests are what makes objects a backup: as many as there are good ones. Beside the trees nothing lies about. */
async function expectNothingLeft(on: FaultBench): Promise<void> {
  const { items } = await on.holdfast.operator.ask<{ items: BackupView[] }>('GET', '/api/v1/backups?limit=500')
  const good = items.filter(({ status }) => status === 'good').map(({ id }) => id)
  const manifests = (await on.keys()).filter((key) => key.endsWith('/manifest.json')).map((key) => key.split('/').at(-2))
  expect(manifests.sort()).toEqual(good.sort())
  expect((await readdir(data)).filter((name) => name.startsWith('.'))).toEqual([])
  expect(await agent.jobProcesses()).toEqual([])
}

/** The bytes that were read were sent by the first attempt alone; a later one adds but the list of what is in the tree. */
function expectSentOnce(on: FaultBench, job: JobView): void {
  const stamp = job.backup_id ?? 'none'
  const packs = on.proxy.seen.filter(({ method, url }) => method === 'PUT' && url.includes(stamp) && url.includes('/packs/'))
  const bytes = (fits: RegExp) =>
    packs.filter(({ url }) => fits.test(url)).reduce((sum, { headers }) => sum + Number(headers['content-length']), 0)
  expect(bytes(/packs\/1-/)).toBeGreaterThan(1_000_000)
  expect(bytes(/packs\/[2-9]-/)).toBeLessThan(10_000)
  expect(new Set(packs.map(({ url }) => url.split('?')[0])).size).toBe(packs.length)
}

async function killJob(): Promise<void> {
  const [pid] = await agent.jobProcesses()
  if (pid === undefined) throw new Error('no job is at work')
  process.kill(pid, 'SIGKILL')
  await waitFor('the process to be gone', () => !isRunning(pid))
}

describe('kill -9 of the process of a job', () => {
  it('in a backup: it is tried again, nothing is uploaded twice, and it restores byte for byte', async ({ skip }) => {
    const on = use(skip)
    const { job, release } = await backupInTheMiddle(on)
    await killJob()
    release()
    const over = await on.done(job)
    expect(over.attempt).toBe(2)
    expect(await on.failures(job)).toContain('agent_crashed')
    expectSentOnce(on, over)
    await expectGood(on, over)
  })

  it('in a restore: it is tried again once its end is confirmed, and leaves one whole tree', async ({ skip }) => {
    const on = use(skip)
    const { job, release, copy } = await restoreInTheMiddle(on)
    await killJob()
    release()
    const over = await on.done(job)
    expect(over.attempt).toBe(2)
    expect(await on.failures(job)).toContain('agent_crashed')
    expect(await treeHash(copy)).toBe(await treeHash(tree))
    await expectNothingLeft(on)
  })
})

describe('kill -9 of the process of a restore over what exists', () => {
  it('leaves what was there whole; the next attempt fetches what neither that nor the killed one has', async ({ skip }) => {
    const on = use(skip)
    contents += 1
    await writeTree(tree, seeded(contents), LARGE_BYTES)
    const backup = await on.holdfast.operator.backUp('db1/tree', 'full')
    restores += 1
    const [target, copy] = [`db1/copy-${restores}`, path.join(data, `copy-${restores}`)]
    await on.holdfast.operator.restore(backup.id, { target })
    await writeFile(path.join(copy, 'sub', 'file-7'), 'changed')
    const before = await treeHash(copy)

    const { caught, release } = on.catchOne((request) => rangeOf(request) > BLOCK_BYTES / 4)
    const from = on.proxy.seen.length
    const job = await on.holdfast.operator.startRestore(backup.id, { target, overwrite_existing: true })
    await caught
    await waitFor('something to be made', async () => (await readdir(data)).some((name) => name.startsWith('.holdfast-new-')))
    await killJob()
    expect(await treeHash(copy)).toBe(before)
    release()
    const over = await on.done(job)
    expect(over).toMatchObject({ attempt: 2, detail: { checked: true } })
    expect(await treeHash(copy)).toBe(await treeHash(tree))
    // in both attempts: ends of packs, and the blocks in which the changed file lies
    const fetched = on.proxy.seen.slice(from).reduce((sum, request) => sum + rangeOf(request), 0)
    expect(fetched).toBeLessThan(LARGE_BYTES / 2)
    const { skipped_bytes: skipped, written_bytes: written } = over.detail as RestoreDetail
    expect(skipped).toBeGreaterThan(written / 2)
    await expectNothingLeft(on)
  })
})

describe('kill -9 of the agent', () => {
  it('in a backup: it goes on when the agent is back, and nothing is uploaded twice', async ({ skip }) => {
    const on = use(skip)
    const { job, release } = await backupInTheMiddle(on)
    await agent.stop('SIGKILL')
    release()
    await agent.start()
    const over = await on.done(job)
    expect(over.attempt).toBe(2)
    expectSentOnce(on, over)
    await expectGood(on, over)
  })

  it('in a restore: it is tried again when the agent is back and has said that it ended', async ({ skip }) => {
    const on = use(skip)
    const { job, release, copy } = await restoreInTheMiddle(on)
    await agent.stop('SIGKILL')
    await waitFor('the job to be lost', async () => (await on.look(job.id)).status === 'lost')
    release()
    await agent.start()
    const over = await on.done(job)
    expect(over.attempt).toBe(2)
    expect(await treeHash(copy)).toBe(await treeHash(tree))
    await expectNothingLeft(on)
  })
})

describe('the stream cut', () => {
  it('for less than the lease: a backup goes on as if nothing had been', async ({ skip }) => {
    const on = use(skip)
    const { job, release } = await backupInTheMiddle(on)
    line.cut()
    line.mend()
    release()
    const over = await on.done(job)
    expect(over.attempt).toBe(1)
    await expectGood(on, over)
  })

  it('for longer than the lease: a backup is lost, and its next attempt uploads nothing twice', async ({ skip }) => {
    const on = use(skip)
    const { job, release } = await backupInTheMiddle(on)
    line.hold()
    await waitFor('the job to wait', async () => (await on.look(job.id)).status === 'queued')
    line.mend()
    release()
    const over = await on.done(job)
    // the newer attempt is not refused because the older one is still ending
    expect(over.attempt).toBe(2)
    expect(await on.failures(job)).toEqual(['job_lost'])
    expectSentOnce(on, over)
    await expectGood(on, over)
  })

  it('for longer than the lease: a restore stops by its own clock, and is tried again only when its agent has said so', async ({
    skip,
  }) => {
    const on = use(skip)
    const { job, release, copy } = await restoreInTheMiddle(on)
    line.hold()
    await waitFor('the job to be lost', async () => (await on.look(job.id)).status === 'lost')
    await waitFor('the restore to stop', async () => (await agent.jobProcesses()).length === 0)
    expect((await on.holdfast.operator.job(job.id)).status).toBe('lost')
    line.mend()
    release()
    const over = await on.done(job)
    expect(over.attempt).toBe(2)
    expect(await treeHash(copy)).toBe(await treeHash(tree))
    await expectNothingLeft(on)
  })
})

describe('kill -9 of the control plane', () => {
  let server: StartedProcess

  beforeAll(async () => {
    if (bench) server = await bench.holdfast.startServerProcess(bench.awsVariables)
  })

  afterAll(async () => {
    await server?.stop()
    await bench?.holdfast.startServer()
  })

  async function killServer(on: FaultBench): Promise<void> {
    await server.stop({ signal: 'SIGKILL' })
    server = await on.holdfast.startServerProcess(on.awsVariables)
  }

  it('in a backup: the agent goes on with it when the control plane is back', async ({ skip }) => {
    const on = use(skip)
    const { job, release } = await backupInTheMiddle(on)
    await killServer(on)
    release()
    const over = await on.holdfast.operator.done(job)
    expect(over.attempt).toBe(1)
    await expectGood(on, over)
  })

  it('between the manifest and its validation: the backup is validated when the control plane is back', async ({ skip }) => {
    const on = use(skip)
    const { caught, release } = on.catchOne(({ method, url }) => method === 'PUT' && url.includes('/manifest.json'))
    const job = await on.holdfast.operator.startBackup('db1/tree', 'full')
    await caught
    await server.stop({ signal: 'SIGKILL' })
    release()
    server = await on.holdfast.startServerProcess(on.awsVariables)
    const over = await on.holdfast.operator.done(job)
    expect(over.attempt).toBe(1)
    await expectGood(on, over)
  })

  it('in a restore: the agent goes on with it within its lease', async ({ skip }) => {
    const on = use(skip)
    const { job, release, copy } = await restoreInTheMiddle(on)
    await killServer(on)
    release()
    await on.holdfast.operator.done(job)
    expect(await treeHash(copy)).toBe(await treeHash(tree))
    await expectNothingLeft(on)
  })
})
