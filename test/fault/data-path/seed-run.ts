import { mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { engineFor } from '../../../agent/engines/registry.ts'
import { restorePlan } from '../../../agent/engines/testing/plans.ts'
import { testRun } from '../../../agent/engines/testing/run.ts'
import { storedPacks } from '../../../agent/jobs/stored-packs.ts'
import { BackupKind, JobCommand, JobOutcome, type JobResult } from '../../../shared/generated/holdfast/agent/v1/jobs.ts'
import { newBackupId, newJobId } from '../../../shared/ids.ts'
import type { StoredPack } from '../../../shared/repository/repository.ts'
import { seeded } from '../../harness/seeded.ts'
import { attempt, type Ended, foldersOf } from './attempt.ts'
import { readerOf } from './reader.ts'
import {
  type Held,
  type Inventory,
  isSame,
  require,
  requireNothingBeside,
  requireObjects,
  requireReason,
  requireSame,
  without,
} from './rules.ts'
import type { Fault, Schedule, Step } from './schedule.ts'
import { layAlike, makeSource, type Source } from './source.ts'
import type { DataPathWorld } from './world.ts'

/** What came of an attempt. `code`: why it failed. */
export interface Outcome {
  readonly step: Step['kind']
  readonly fault: Fault | null
  readonly met: boolean
  readonly code: string | null
  /** Of a backup: whether it counts, whatever its attempt said. */
  readonly good: boolean
}

export interface SeedResult {
  readonly outcomes: readonly Outcome[]
  /** Of backups that took several attempts: bytes of packs that went to the store beyond those that the manifest names. */
  readonly beyondBytes: readonly number[]
}

type Noted = Pick<StoredPack, 'name' | 'size'>

interface Good {
  readonly id: string
  readonly type: Step['type']
  /** What it has to give back. */
  readonly holds: Held
}

const MIB = 2 ** 20
/** What an attempt that goes on sends again, at most. */
const PROMISE_BYTES = 64 * MIB
const PAGES_BYTES = MIB
const KINDS = { full: BackupKind.FULL, incremental: BackupKind.INCREMENTAL, differential: BackupKind.DIFFERENTIAL } as const

/** Everything that one seed does, and the rules that have to hold after each attempt and at the end. Throws what was broken. */
export async function runSeed(world: DataPathWorld, schedule: Schedule): Promise<SeedResult> {
  const folder = path.join(world.folder.path, `seed-${schedule.seed}`)
  const random = seeded(schedule.seed)
  const source = await makeSource(schedule, path.join(folder, 'data'), random)
  const run = new SeedRun(world, schedule, { folder, source })
  await run.begin()
  for (const [number, step] of schedule.steps.entries()) {
    if (step.change) await source.change()
    if (step.kind === 'backup') await run.backup(step)
    else await run.restore(step, number)
  }
  await run.requireAllRestore()
  await run.end()
  return run
}

class SeedRun implements SeedResult {
  readonly outcomes: Outcome[] = []
  readonly beyondBytes: number[] = []
  readonly #world: DataPathWorld
  readonly #schedule: Schedule
  readonly #folder: string
  readonly #source: Source
  /** The newest last. */
  readonly #good: Good[] = []
  readonly #folders: ReturnType<typeof foldersOf>

  constructor(world: DataPathWorld, schedule: Schedule, of: { folder: string; source: Source }) {
    this.#world = world
    this.#schedule = schedule
    this.#folder = of.folder
    this.#source = of.source
    this.#folders = foldersOf(path.join(of.folder, 'home'), of.source.path, path.join(world.folder.path, 'store'))
  }

  get #name(): string {
    return `s${this.#schedule.seed}`
  }

  async begin(): Promise<void> {
    const { fleet } = this.#world.controlPlane
    const home = path.join(this.#folder, 'home')
    await mkdir(home, { recursive: true })
    await this.#world.agent.open({
      home,
      agent: {
        name: 'db1',
        fleetId: fleet.fleetId,
        verifyingKey: fleet.verifyingKey,
        ageIdentity: fleet.agentIdentity.reveal(),
        ageRecipient: fleet.agentRecipient,
        labels: {},
        restoresFrom: [],
        offlineLimitMs: 60_000,
        logLevel: 'error',
      },
      sources: { [this.#name]: { engine: this.#source.engine, path: this.#source.path } },
    })
  }

  async end(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true })
    await rm(path.join(this.#folders.store, 'db1', this.#name), { recursive: true, force: true })
  }

  /** Attempts of one job, as a control plane gives them out, and a new job where the first was given up. The last meet no fault. */
  async backup(step: Step): Promise<void> {
    let job = this.#newBackup(step)
    let noted: Noted[] = []
    for (let number = 0; ; number++) {
      if (number > 0 && step.changeBetween) await this.#source.change()
      const fault = step.faults[number] ?? null
      const before = this.#inventory()
      const command = JobCommand.fromPartial({ ...job, work: { $case: 'backup', value: job.work } })
      const ended = await attempt(this.#world, command, fault, this.#folders)
      this.#requireUntouched(before)
      const good = this.#world.controlPlane.committed.has(job.work.backup.id)
      this.#note('backup', fault, ended, good)
      if (ended.result) await this.#confirm(ended.result, good || !retryable(ended.result))
      if (good) {
        const type = this.#world.controlPlane.of(job.work.backup.id).manifest.facts.type
        const holds = without(before, ended.findings)
        this.#good.push({ id: job.work.backup.id, type, holds })
        const same = holds.files.size === before.size && holds.unnamed === 0 && !step.changeBetween
        this.#requireStored(job.work.backup.id, same ? noted : [])
        return
      }
      require(ended.result?.outcome !== JobOutcome.SUCCEEDED, 'a backup that is not committed says that it succeeded')
      requireReason(ended.result, 'the backup')
      if (fault === null) throw new Error(`without a fault the backup failed: ${JSON.stringify(ended.result?.error ?? 'lost')}`)
      job = ended.result && !retryable(ended.result) ? this.#newBackup(step) : { ...job, attempt: job.attempt + 1 }
      noted = await this.#noted(job)
    }
  }

  /** The packs that the journal holds of a job's earlier attempts. */
  async #noted({ jobId, attempt }: { jobId: string; attempt: number }): Promise<Noted[]> {
    const file = path.join(this.#folders.journal, `${jobId}.packs`)
    const of = Array.from({ length: attempt - 1 }, (_, n) => Array.fromAsync(storedPacks(file, n + 1)))
    return (await Promise.all(of)).flat()
  }

  #newBackup(step: Step) {
    const { controlPlane } = this.#world
    const type = this.#good.length > 0 ? step.type : 'full'
    const base = type === 'full' ? undefined : this.#good.findLast((good) => type === 'incremental' || good.type === 'full')
    const leanedOn = base ? controlPlane.of(base.id).manifest.facts.leans_on.map(({ id }) => controlPlane.wireRef(id)) : []
    const backup = { host: 'db1', source: this.#name, id: newBackupId(new Date()), manifestSha256: Buffer.alloc(0) }
    const work = {
      backup,
      kind: KINDS[base ? type : 'full'],
      ...(base ? { base: controlPlane.wireRef(base.id), leanedOn } : {}),
      recipients: [controlPlane.fleet.recipient],
      // that of a source of whole packs: chunks are cut as they are for one of any size
      expectedBytes: 0n,
      pageBytes: 0,
      averageChunkBytes: 0,
    }
    return { jobId: newJobId(), attempt: 1, work }
  }

  async restore(step: Step, number: number): Promise<void> {
    const good = this.#good.at(-1)
    if (!good) return
    const { controlPlane } = this.#world
    const targetName = `copy-${number}`
    const place = path.join(path.dirname(this.#source.path), targetName)
    const leanedOn = controlPlane.of(good.id).manifest.facts.leans_on.map(({ id }) => controlPlane.wireRef(id))
    const of = { backup: controlPlane.wireRef(good.id), leanedOn }
    const value = { ...of, viaSource: this.#name, targetName, verifyIntegrity: true, overwriteExisting: step.over === true }
    const lay = step.over ? await layAlike(this.#source, place, seeded(this.#schedule.seed)) : null
    let job = { jobId: newJobId(), attempt: 1 }
    for (let number = 0; ; number++) {
      const fault = step.faults[number] ?? null
      const before = this.#inventory()
      const ended = await attempt(
        this.#world,
        JobCommand.fromPartial({ ...job, work: { $case: 'restore', value } }),
        fault,
        this.#folders,
      )
      this.#requireUntouched(before)
      const found = this.#source.inventory(place)
      const there = lay && found && isSame(found, { files: lay, unnamed: 0 }) ? null : found
      const succeeded = ended.result?.outcome === JobOutcome.SUCCEEDED
      this.#note('restore', fault, ended, succeeded)
      if (ended.result) await this.#confirm(ended.result, succeeded || !retryable(ended.result))
      if (there) requireSame(there, good.holds, `under the name of a restore that ${succeeded ? 'succeeded' : 'failed'}`)
      else require(!succeeded, 'a restore says that it succeeded, and nothing is there')
      if (succeeded && fault === null) requireNothingBeside(place)
      // one that was ended after its last step has nothing to do again
      if (there) return
      requireReason(ended.result, 'the restore')
      if (fault === null) throw new Error(`without a fault the restore failed: ${JSON.stringify(ended.result?.error ?? 'lost')}`)
      job = ended.result && !retryable(ended.result) ? { jobId: newJobId(), attempt: 1 } : { ...job, attempt: job.attempt + 1 }
    }
  }

  #inventory(): Inventory {
    return this.#source.inventory(this.#source.path) ?? new Map()
  }

  #requireUntouched(before: Inventory): void {
    requireSame(this.#inventory(), { files: before, unnamed: 0 }, 'in the source, which nobody may change,')
  }

  #note(step: Step['kind'], fault: Fault | null, { result, met }: Ended, good: boolean): void {
    const failed = result === null ? 'lost' : (result.error?.code ?? null)
    this.outcomes.push({ step, fault, met, code: result?.outcome === JobOutcome.SUCCEEDED ? null : failed, good })
  }

  #confirm(result: JobResult, final: boolean): Promise<void> {
    return this.#world.agent.confirm(result, final)
  }

  /** What was stored for it is there, what was noted as stored is used, and what was sent beyond that is within the promise. */
  #requireStored(id: string, noted: readonly Noted[]): void {
    const { manifest } = this.#world.controlPlane.of(id)
    requireObjects(manifest, this.#folders.store)
    const used = new Set(manifest.facts.objects.map(({ name }) => name))
    // a pack of pages alone, as a backup of what is known leaves it, holds nothing that another attempt needs
    const left = noted.filter(({ name, size }) => !used.has(name) && size > PAGES_BYTES)
    require(left.length === 0, `${left[0]?.name} of ${id} was stored and noted, and its chunks were sent again`)
    if (manifest.facts.attempt === 1) return
    const sent = this.#world.proxy.seen.filter(({ method, url }) => method === 'PUT' && url.includes(`/${id}/packs/`))
    const sentBytes = sent.reduce((sum, { passedBytes }) => sum + passedBytes, 0)
    const named = manifest.facts.objects.filter(({ name }) => name.startsWith('packs/')).reduce((sum, { size }) => sum + size, 0)
    this.beyondBytes.push(sentBytes - named)
    require(sentBytes - named <= PROMISE_BYTES, `${sentBytes} bytes of packs were sent for the ${named} of ${id}`)
  }

  /** Whatever was done to them, good backups are good: by the reader itself, into a folder of its own. */
  async requireAllRestore(): Promise<void> {
    for (const [number, good] of this.#good.entries()) {
      const { manifest } = this.#world.controlPlane.of(good.id)
      const folder = path.join(this.#folder, `out-${number}`)
      await mkdir(folder)
      const engine = engineFor(this.#source.engine)
      const reader = await readerOf(this.#world, manifest)
      const run = await testRun()
      try {
        await engine.restore(restorePlan(engine.config.parse({ path: path.join(folder, 'none') }), 'copy'), reader, run)
      } finally {
        await reader.close()
        await run.dispose()
      }
      requireSame(this.#source.inventory(path.join(folder, 'copy')) ?? new Map(), good.holds, `in ${good.id}, which is good,`)
    }
  }
}

const retryable = (result: JobResult): boolean => result.error?.retryable === true
