import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { seeded } from '../harness/seeded.ts'
import { describesBackup, readsPack, storesPack } from './bench.ts'
import { type RivalsResult, runRivals } from './rivals.ts'
import type { BackupStep, ReadStep, Schedule, Step } from './schedule.ts'
import { makeSource, type SeedSource } from './seed-source.ts'
import { type Strike, strike } from './strike.ts'
import { type HostName, require, type World } from './world.ts'

export interface StepResult extends Strike {
  readonly step: Step
  readonly seconds: number
}

export interface Rivalry extends RivalsResult {
  readonly seconds: number
}

export interface SeedResult {
  readonly steps: readonly StepResult[]
  readonly rivals: Rivalry | null
}

interface Good {
  readonly id: string
  /** Of the source when the backup was made; nobody writes then. */
  readonly hash: string
  restored: boolean
}

/** Everything that one seed does, with the rules that have to hold after each operation and at the end. Throws what was broken. */
export async function runSeed(world: World, schedule: Schedule): Promise<SeedResult> {
  const random = seeded(schedule.seed ^ 0x5eed)
  const source = await makeSource(schedule, random, {
    data: world.hosts.db1.data,
    elsewhere: world.hosts.db2.data,
    server: world.postgres,
  })
  const run = new SeedRun(world, { schedule, source, random })
  await world.offer(source)
  const steps = await run.steps()
  await run.requireGood()
  const rivals = await run.rivals()
  await run.requireAllRestore()
  await run.requireNothingElseBelieved()
  await world.bench.removeKeys(await world.bench.keys(run.prefix))
  await source.remove()
  return { steps, rivals }
}

class SeedRun {
  readonly #world: World
  readonly #schedule: Schedule
  readonly #source: SeedSource
  readonly #random: () => number
  /** The newest first. */
  readonly #good: Good[] = []
  #copies = 0

  constructor(world: World, of: { schedule: Schedule; source: SeedSource; random: () => number }) {
    this.#world = world
    this.#schedule = of.schedule
    this.#source = of.source
    this.#random = of.random
  }

  get #operator() {
    return this.#world.bench.holdfast.operator
  }

  /** Of everything in the store that is this seed's. */
  get prefix(): string {
    return `db1/${this.#source.name}/`
  }

  async steps(): Promise<StepResult[]> {
    const results: StepResult[] = []
    for (const [number, step] of this.#schedule.steps.entries()) {
      if (number > 0 && step.kind === 'backup') await this.#source.change()
      const start = performance.now()
      const met = step.kind === 'backup' ? await this.#backup(step) : await this.#read(step)
      if (met) results.push({ step, ...met, seconds: (performance.now() - start) / 1000 })
      await this.#world.requireQuiet()
    }
    return results
  }

  async #backup({ type, fault, middle }: Omit<BackupStep, 'kind'>): Promise<Strike> {
    const hash = await this.#source.hash()
    const met = await strike(this.#world, {
      fault,
      host: 'db1',
      middle: middle === 'pack' ? storesPack : describesBackup,
      random: this.#random,
      start: () => this.#operator.startBackup(`db1/${this.#source.name}`, type),
    })
    const { job } = met
    const backup = await this.#operator.backup(job.backup_id ?? '')
    const expected = job.status === 'succeeded' ? 'good' : 'failed'
    require(backup.status === expected, `the backup of a ${job.status} job is ${backup.status}`)
    if (job.status === 'succeeded') this.#good.unshift({ id: backup.id, hash, restored: false })
    return met
  }

  async #read(step: ReadStep): Promise<Strike | null> {
    const good = this.#good[Math.min(step.back, this.#good.length - 1)]
    if (!good) return null
    if (step.kind === 'restore') return this.#restore(good, step)
    const met = await strike(this.#world, {
      fault: step.fault,
      host: step.on,
      middle: readsPack,
      random: this.#random,
      start: () => this.#operator.ask('POST', `/api/v1/backups/${good.id}/verify`, { on: step.on }),
    })
    const { job } = met
    const found = (job.detail as { valid?: boolean } | null)?.valid
    require(job.status !== 'succeeded' || found === true, `verify found a good backup damaged: ${JSON.stringify(job.detail)}`)
    return met
  }

  async #restore(good: Good, { fault, on }: Pick<ReadStep, 'fault' | 'on'>): Promise<Strike> {
    this.#copies += 1
    const name = `copy_${this.#schedule.seed}_${this.#copies}`
    const start = async () => {
      const request = { target: `${on}/${name}`, via: `${on}/${this.#source.name}` }
      return this.#world.watchRestore(await this.#operator.startRestore(good.id, request))
    }
    const met = await strike(this.#world, { fault, host: on, middle: readsPack, random: this.#random, start })
    await this.#requireWhole(good, met.job, { on, name })
    if (met.job.status === 'succeeded') good.restored = true
    return met
  }

  /** Under the name of a target there is the whole of the backup, or nothing. */
  async #requireWhole(good: Good, job: JobView, { on, name }: { on: HostName; name: string }): Promise<void> {
    const hash = await this.#source.hashOfCopy(this.#world.hosts[on].data, name)
    const said = `the restore ${job.id}, which is ${job.status}`
    if (hash === null) require(job.status !== 'succeeded', `${on}/${name} is not there after ${said}`)
    else require(hash === good.hash, `${on}/${name} is not what ${good.id} was made of after ${said}`)
  }

  /** Whatever was done to earlier ones: a source that nothing is done to any more can be backed up. */
  async requireGood(): Promise<void> {
    if (this.#good.length === 0) await this.#backup({ type: 'full', fault: 'none', middle: 'pack' })
    require(this.#good.length > 0, 'the seed ends without a good backup')
  }

  /** Where the seed has drawn it: whoever of the two has got the place, the whole of the backup is in it. */
  async rivals(): Promise<Rivalry | null> {
    const [good] = this.#good
    const { rivals } = this.#schedule
    if (!good || !rivals) return null
    const { twoNames } = this.#source
    const start = performance.now()
    const result = await runRivals(this.#world, good.id, twoNames, rivals)
    const hash = await this.#source.hashOfCopy(this.#world.hosts.db2.data, twoNames.copy)
    require(hash === good.hash, `${twoNames.copy} is not what ${good.id} was made of after ${JSON.stringify(result)}`)
    good.restored = true
    await this.#world.requireQuiet()
    return { ...result, seconds: (performance.now() - start) / 1000 }
  }

  /** Whatever was done to them, good backups are good. */
  async requireAllRestore(): Promise<void> {
    for (const good of this.#good.filter(({ restored }) => !restored)) {
      const { job } = await this.#restore(good, { fault: 'none', on: 'db2' })
      require(job.status === 'succeeded', `good backup ${good.id} does not restore: ${JSON.stringify(job.error)}`)
    }
    await this.#world.requireQuiet()
  }

  /** What counts as a backup is what ended good: by its manifest in the store, and with every object that it names. */
  async requireNothingElseBelieved(): Promise<void> {
    const keys = await this.#world.bench.keys(this.prefix)
    const manifests = keys.filter((key) => key.endsWith('/manifest.json')).map((key) => key.split('/').at(-2) ?? '')
    const good = new Set(this.#good.map(({ id }) => id))
    for (const id of manifests.filter((one) => !good.has(one))) {
      const { status } = await this.#operator.backup(id)
      require(status === 'failed', `${id} has a manifest and is ${status}`)
    }
    for (const id of good) {
      require(manifests.includes(id), `good backup ${id} has no manifest`)
      const validation = await this.#operator.validate(id)
      require(validation.valid, `${id} is not whole: ${JSON.stringify(validation.errors)}`)
    }
  }
}
