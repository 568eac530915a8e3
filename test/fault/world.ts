import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readlink } from 'node:fs/promises'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { runCommand } from '../harness/commands.ts'
import type { TestAgent } from '../harness/holdfast.ts'
import { seeded, seededFaults } from '../harness/seeded.ts'
import { startTcpProxy, type TcpProxy } from '../harness/tcp-proxy.ts'
import { waitFor } from '../harness/wait.ts'
import { describesBackup, FaultBench, randomBytes, readsPack, storesPack, treeHash, writeTree } from './bench.ts'
import type { BackupStep, FaultKind, ReadStep, Schedule, Step } from './schedule.ts'

type Host = 'db1' | 'db2'

interface Good {
  readonly id: string
  readonly source: BackupStep['source']
  /** Of the source when the backup began; nobody writes then. */
  readonly hash: string
}

export interface StepResult {
  readonly step: Step
  readonly job: JobView
  readonly seconds: number
}

/** An operation may take this long, whatever is done to it. */
const LIMIT_MS = 90_000
const BYTES = 1_500_000

/** Two hosts, one control plane and one store that all seeds share. What a seed breaks the next one finds mended, or fails by it. */
export class World implements AsyncDisposable {
  readonly bench: FaultBench
  readonly #agents: Readonly<Record<Host, TestAgent>>
  readonly #lines: Readonly<Record<Host, TcpProxy>>
  readonly #good: Good[] = []
  #copies = 0

  private constructor(bench: FaultBench, agents: Record<Host, TestAgent>, lines: Record<Host, TcpProxy>) {
    this.bench = bench
    this.#agents = agents
    this.#lines = lines
  }

  /** Null where the S3 server cannot be had. */
  static async start(): Promise<World | null> {
    const bench = await FaultBench.start()
    if (!bench) return null
    const { holdfast } = bench
    const join = async (name: Host) => {
      const data = path.join(holdfast.folder.path, 'data', name)
      await mkdir(path.join(data, 'tree'), { recursive: true })
      await writeTree(path.join(data, 'tree'), seeded(0), BYTES)
      writeNotes(path.join(data, 'notes.db'), seeded(0))
      const sources = {
        tree: { engine: 'files', path: path.join(data, 'tree') },
        notes: { engine: 'sqlite', path: path.join(data, 'notes.db') },
      }
      const line = await startTcpProxy(holdfast.server.ports.agents)
      const agent = await holdfast.addAgent(name, { sources, restores_from: ['*'] }, { server: `127.0.0.1:${line.port}` })
      return { line, agent }
    }
    const [one, two] = [await join('db1'), await join('db2')]
    return new World(bench, { db1: one.agent, db2: two.agent }, { db1: one.line, db2: two.line })
  }

  /** Throws what rule was broken. */
  async run({ seed, steps }: Schedule): Promise<StepResult[]> {
    const results: StepResult[] = []
    const random = seeded(seed ^ 0x5eed)
    for (const step of steps) {
      const start = performance.now()
      const job = step.kind === 'backup' ? await this.#backup(seed, step, random) : await this.#read(seed, step)
      if (job) results.push({ step, job, seconds: (performance.now() - start) / 1000 })
      await this.#requireQuiet()
    }
    await this.#requireNothingElseBelieved()
    return results
  }

  async #backup(seed: number, step: BackupStep, random: () => number): Promise<JobView> {
    const place = this.#place('db1', step.source)
    if (step.source === 'tree') await writeTree(place, random, BYTES / 4, 2)
    else writeNotes(place, random)
    const hash = await hashOf(step.source, place)
    const operator = this.bench.holdfast.operator
    const job = await this.#faulted(seed, step.fault, 'db1', step.middle === 'pack' ? storesPack : describesBackup, () =>
      operator.startBackup(`db1/${step.source}`, step.type),
    )
    const backup = await operator.backup(job.backup_id ?? '')
    require(backup.status ===
      (job.status === 'succeeded' ? 'good' : 'failed'), `the backup of a ${job.status} job is ${backup.status}`)
    if (job.status === 'succeeded') this.#good.unshift({ id: backup.id, source: step.source, hash })
    return job
  }

  async #read(seed: number, step: ReadStep): Promise<JobView | null> {
    const good = this.#good[Math.min(step.back, this.#good.length - 1)]
    if (!good) return null
    const { operator } = this.bench.holdfast
    if (step.kind === 'verify') {
      const job = await this.#faulted(seed, step.fault, step.on, readsPack, () =>
        operator.ask('POST', `/api/v1/backups/${good.id}/verify`, { on: step.on }),
      )
      const found = (job.detail as { valid?: boolean } | null)?.valid
      require(job.status !== 'succeeded' || found === true, `verify found a good backup damaged: ${JSON.stringify(job.detail)}`)
      return job
    }
    this.#copies += 1
    const name = `copy-${this.#copies}`
    const target = `${step.on}/${name}`
    const job = await this.#faulted(seed, step.fault, step.on, readsPack, () => operator.startRestore(good.id, { target }))
    const place = path.join(path.dirname(this.#place(step.on, good.source)), name)
    if (existsSync(place)) {
      const same = (await hashOf(good.source, place)) === good.hash
      require(same, `${target} is not what ${good.id} was made of (the restore ${job.status})`)
    } else require(job.status !== 'succeeded', `${target} is not there although its restore succeeded`)
    return job
  }

  #place(host: Host, source: BackupStep['source']): string {
    return path.join(this.bench.holdfast.folder.path, 'data', host, source === 'tree' ? 'tree' : 'notes.db')
  }

  /** Starts the work, does the fault to it in its middle, and gives the job once it is over. */
  async #faulted(
    seed: number,
    fault: FaultKind,
    host: Host,
    middle: Parameters<FaultBench['catchOne']>[0],
    start: () => Promise<JobView>,
  ): Promise<JobView> {
    const { bench } = this
    if (fault === 'target answers badly') bench.proxy.script = seededFaults(seed, 0.2)
    else if (fault === 'target slow') bench.proxy.script = () => ({ kind: 'slow', bytesPerSecond: 2_000_000 })
    const whole = fault === 'none' || fault.startsWith('target')
    const { caught, release } = whole ? { caught: null, release: () => undefined } : bench.catchOne(middle)
    const job = await start()
    try {
      if (caught) {
        await Promise.race([caught, this.#over(job)])
        await this.#strike(fault, host, job)
      }
    } finally {
      release()
    }
    const over = await bench.over(job, LIMIT_MS)
    bench.proxy.script = () => ({ kind: 'pass' })
    require(over.status !== 'failed' || over.error !== null, `the failed ${over.kind} ${over.id} says no reason`)
    return over
  }

  async #over(job: JobView): Promise<void> {
    await waitFor('the job to be over', async () => (await this.bench.look(job.id)).finished_at, {
      timeoutMs: LIMIT_MS,
      everyMs: 100,
    }).catch(() => undefined)
  }

  async #strike(fault: FaultKind, host: Host, job: JobView): Promise<void> {
    const { holdfast, clock } = this.bench
    const [agent, line] = [this.#agents[host], this.#lines[host]]
    switch (fault) {
      case 'job killed':
        for (const pid of await agent.jobProcesses()) process.kill(pid, 'SIGKILL')
        return
      case 'agent killed':
        await agent.stop('SIGKILL')
        return agent.start()
      case 'control plane restarted':
        await holdfast.stopServer()
        return holdfast.startServer()
      case 'stream cut':
        line.cut()
        return line.mend()
      case 'stream held beyond the lease':
        line.hold()
        await this.#movedOn(job)
        return line.mend()
      case 'lease ends by the clock':
        return clock.ahead(10_000, () => this.#movedOn(job))
      case 'cancelled':
        // 409: it was over before
        await holdfast.operator.call('POST', `/api/v1/jobs/${job.id}/cancel`, {})
    }
  }

  /** The control plane has given the attempt up, or the job is over. */
  async #movedOn(job: JobView): Promise<void> {
    await waitFor('the control plane to give the attempt up', async () => {
      const now = await this.bench.look(job.id)
      return now.status === 'lost' || now.status === 'queued' || now.finished_at !== null || now.attempt > 1
    })
  }

  /** Between two operations nothing runs: no job is unfinished, and no process works on one. */
  async #requireQuiet(): Promise<void> {
    const { operator, folder } = this.bench.holdfast
    const { items } = await operator.ask<{ items: JobView[] }>('GET', '/api/v1/jobs?unfinished=true&limit=500')
    require(items.length === 0, `jobs are unfinished: ${items.map(({ id, status }) => `${id} ${status}`).join(', ')}`)
    await waitFor('every process of a job to end', async () => (await workers(folder.path)).length === 0)
  }

  /** What counts as a backup is what ended good: by its manifest in the store, and with every object that it names. */
  async #requireNothingElseBelieved(): Promise<void> {
    const manifests = (await this.bench.keys())
      .filter((key) => key.endsWith('/manifest.json'))
      .map((key) => key.split('/').at(-2) ?? '')
    const good = new Set(this.#good.map(({ id }) => id))
    const { operator } = this.bench.holdfast
    for (const id of manifests.filter((one) => !good.has(one))) {
      const { status } = await operator.backup(id)
      require(status === 'failed', `${id} has a manifest and is ${status}`)
    }
    for (const id of good) require(manifests.includes(id), `good backup ${id} has no manifest`)
    const newest = this.#good[0]
    if (!newest) return
    const validation = await operator.validate(newest.id)
    require(validation.valid, `${newest.id} is not whole: ${JSON.stringify(validation.errors)}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.bench[Symbol.asyncDispose]()
    await Promise.all(Object.values(this.#lines).map((line) => line.stop()))
  }
}

function require(holds: boolean, what: string): void {
  if (!holds) throw new Error(what)
}

/** Processes that have a file below the folder open and are the program of a job. */
async function workers(folder: string): Promise<string[]> {
  const found = await runCommand('pgrep', ['-f', 'agent/jobs/child.ts']).catch(() => '')
  const pids = found.split('\n').filter((line) => line !== '')
  const own: string[] = []
  for (const pid of pids) {
    // gone meanwhile
    const files = await readdir(`/proc/${pid}/fd`).catch(() => [])
    const links = await Promise.all(files.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')))
    if (links.some((link) => link.startsWith(`${folder}/`))) own.push(pid)
  }
  return own
}

function writeNotes(file: string, random: () => number): void {
  const db = new DatabaseSync(file)
  db.exec('pragma journal_mode = wal; create table if not exists notes (id integer primary key, body blob)')
  const insert = db.prepare('insert or replace into notes values (?, ?)')
  db.exec('begin')
  for (let n = 0; n < 200; n++) insert.run(Math.floor(random() * 1000), randomBytes(random, 2000))
  db.exec('commit')
  db.close()
}

async function hashOf(source: BackupStep['source'], place: string): Promise<string> {
  if (source === 'tree') return treeHash(place)
  const db = new DatabaseSync(place, { readOnly: true })
  try {
    const hash = createHash('sha256')
    for (const row of db.prepare('select id, body from notes order by id').iterate()) {
      hash.update(`${row.id} `).update(row.body as Uint8Array)
    }
    return hash.digest('hex')
  } finally {
    db.close()
  }
}
