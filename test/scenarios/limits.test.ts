import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { getPriority } from 'node:os'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { systemClock } from '../../shared/clock.ts'
import { runCommand } from '../harness/commands.ts'
import { type TestAgent, TestHoldfast } from '../harness/holdfast.ts'
import { waitFor } from '../harness/wait.ts'

/** What policies allow jobs to take of the line and of the host, by what jobs then take. */

/** The slowest rate that is accepted. */
const SLOW = 500_000
/** What passes at once, and a share that a job was granted before. */
const HEAD_START = 0.35 * SLOW

let holdfast: TestHoldfast
let db1: TestAgent
/** Wall time of the control plane, ahead of ours. */
let aheadMs = 0

beforeAll(async () => {
  const clock = { ...systemClock, now: () => new Date(Date.now() + aheadMs) }
  holdfast = await TestHoldfast.start({ clock })
  const sources: Record<string, Record<string, unknown>> = {}
  for (const [name, size] of Object.entries({ large: 30_000_000, middle: 5_000_000, one: 1_500_000, other: 1_500_000 })) {
    const folder = path.join(holdfast.folder.path, 'data', name)
    await mkdir(folder, { recursive: true })
    await writeFile(path.join(folder, 'file'), randomBytes(size))
    sources[name] = { engine: 'files', path: folder }
  }
  db1 = await holdfast.addAgent('db1', { sources })
})
afterAll(() => holdfast?.[Symbol.asyncDispose]())
afterEach(() => limit({}))

/** One policy selects one source: what it says holds for the agent, so for the others too. */
const limit = (limits: object) =>
  holdfast.operator.ask('PUT', '/api/v1/fleet', {
    policies: { line: { select: { sources: ['db1/one'] }, targets: ['primary'], limits } },
  })

const seconds = (job: JobView) => (Date.parse(job.finished_at ?? '') - Date.parse(job.started_at ?? '')) / 1000

/** A full of the large source that would take a minute at the slow rate, once its job is at work and has read what it has to send. */
async function underWay(): Promise<{ job: JobView; pid: number }> {
  const job = await holdfast.operator.startBackup('db1/large', 'full')
  const pid = await waitFor('the process of the job', async () => (await db1.jobProcesses())[0])
  await waitFor(
    'it to have read enough',
    async () => ((await holdfast.operator.job(job.id)).progress?.read_bytes ?? 0) > 1_000_000,
  )
  return { job, pid }
}

const cancel = async (job: JobView) => {
  await holdfast.operator.ask('POST', `/api/v1/jobs/${job.id}/cancel`)
  await holdfast.operator.over(job)
}

describe('a rate', () => {
  it('of upload is kept by all jobs of an agent together, whichever of its sources the policy selects', async () => {
    await limit({ upload: '500KB/s' })
    const started = performance.now()
    const jobs = await Promise.all([
      holdfast.operator.startBackup('db1/one', 'full'),
      holdfast.operator.startBackup('db1/other', 'full'),
    ])
    const done = await Promise.all(jobs.map((job) => holdfast.operator.done(job)))
    const tookSeconds = (performance.now() - started) / 1000
    const backups = await Promise.all(done.map((job) => holdfast.operator.backup(job.backup_id ?? '')))
    const sent = backups.reduce((sum, backup) => sum + (backup.stored_bytes ?? 0), 0)
    expect(sent).toBeGreaterThan(3_000_000)
    expect(tookSeconds).toBeGreaterThan((sent - HEAD_START) / SLOW)
    // side by side: each alone at its half of the rate
    expect(Math.max(...done.map(seconds))).toBeGreaterThan(((sent / 2 - HEAD_START) / SLOW) * 1.3)
  })

  it('of download is kept by a restore', async () => {
    const backup = await holdfast.operator.backUp('db1/one', 'full')
    await limit({ download: '500KB/s' })
    const restore = await holdfast.operator.restore(backup.id, { target: 'db1/slowly', via: 'db1/one' })
    expect(seconds(restore)).toBeGreaterThan((1_500_000 - HEAD_START) / SLOW)
    const copy = path.join(holdfast.folder.path, 'data', 'slowly')
    expect((await readFile(path.join(copy, 'file'))).equals(await readFile(path.join(copy, '../one/file')))).toBe(true)
  })

  it('that a policy changes holds at once for a job that runs', async () => {
    await limit({ upload: '500KB/s' })
    const { job } = await underWay()
    const slowSeconds = 30_000_000 / SLOW
    await limit({})
    const done = await holdfast.operator.done(job, (slowSeconds * 1000) / 2)
    expect(done.attempt).toBe(1)
    expect(seconds(done)).toBeLessThan(slowSeconds / 2)
  })

  it('that a policy sets where there was none holds for a job that has begun', async () => {
    await limit({})
    const job = await holdfast.operator.startBackup('db1/middle', 'full')
    const pid = await waitFor('the process of the job', async () => (await db1.jobProcesses())[0])
    // held before it has sent anything: a megabyte would be gone before a limit can be set
    process.kill(pid, 'SIGSTOP')
    const told = () => db1.process.output().split('"upload":500000').length
    const before = told()
    await limit({ upload: '500KB/s' })
    await waitFor('the agent to be told', () => told() > before)
    const went = performance.now()
    process.kill(pid, 'SIGCONT')
    const done = await holdfast.operator.done(job)
    expect(done.attempt).toBe(1)
    expect((performance.now() - went) / 1000).toBeGreaterThan((5_000_000 - HEAD_START) / SLOW)
  })

  it('of a window begins and ends by the time of day alone, also for a job that runs', async () => {
    const now = new Date(Date.now() + aheadMs)
    const inOneHour = new Date(now.getTime() + 3_600_000)
    const timeOf = (date: Date) => date.toISOString().slice(11, 16)
    const from = new Date(now.getTime() - 60_000)
    await limit({ windows: [{ from: timeOf(from), to: timeOf(inOneHour), upload: '500KB/s' }] })
    const { job } = await underWay()
    const { stored_bytes: stored } = (await holdfast.operator.job(job.id)).progress ?? {}
    expect(stored ?? 0).toBeLessThan(10_000_000)
    aheadMs += 3_700_000
    const done = await holdfast.operator.done(job, 30_000)
    expect(done.attempt).toBe(1)
  })
})

describe.skipIf(process.platform !== 'linux')('a priority', () => {
  /** Of every thread of a job's process. */
  async function niceOf(pid: number): Promise<number[]> {
    const threads = await readdir(`/proc/${pid}/task`)
    const stats = await Promise.all(threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/stat`, 'utf8').catch(() => '')))
    return [...new Set(stats.filter(Boolean).map((stat) => Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16])))]
  }
  const diskOf = async (pid: number) => (await runCommand('ionice', ['-p', String(pid)])).trim()

  it('of processor and disk is what a job’s process has, all threads of it, and changes while it runs', async () => {
    await limit({ upload: '500KB/s', processor: 'lowest', disk: 'idle' })
    const { job, pid } = await underWay()
    expect([await niceOf(pid), await diskOf(pid)]).toEqual([[19], 'idle'])
    await limit({ upload: '500KB/s', processor: 'lowest', disk: 'low' })
    await waitFor('the disk priority to change', async () => (await diskOf(pid)) === 'best-effort: prio 7')
    await cancel(job)
  })

  it('is lowered for the processor alone where no policy says anything', async () => {
    await limit({ upload: '500KB/s' })
    const { job, pid } = await underWay()
    const nice = Math.max(5, getPriority())
    // those that compress stand back, once they have begun
    const all = [nice, Math.min(nice + 5, 19)].join()
    await waitFor('all threads to have theirs', async () => (await niceOf(pid)).sort((a, b) => a - b).join() === all)
    expect(await diskOf(pid)).toBe('none: prio 0')
    await cancel(job)
  })
})
