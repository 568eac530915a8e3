import { mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { runCommand } from '../harness/commands.ts'
import type { Contestant, Input } from './contestant.ts'
import { holdfast, removeRepository } from './holdfast.ts'
import { type Measured, storedBytes } from './measure.ts'
import { megabytes, print, type Result, type Table } from './report.ts'

export interface BenchOptions {
  readonly mb: number
  readonly files: number
  readonly rounds: number
  readonly seed: number
  readonly incrementals: number
  /** Of the source of `memory`, and of the list beside it. */
  readonly memoryMb: number
  readonly knownChunks: number
}

/** One run: who takes part, how much of what, and a folder for all of it. */
export class Bench {
  readonly folder: string
  readonly present: readonly Contestant[]
  readonly options: BenchOptions

  constructor(folder: string, present: readonly Contestant[], options: BenchOptions) {
    this.folder = folder
    this.present = present
    this.options = options
  }

  /** Those that make repositories, with one compression each. */
  get repositories(): Contestant[] {
    return this.present.filter((one) => one.again && one.name !== 'borg lz4')
  }

  /** Makes a folder to be backed up, gives its path and size to `work`, and removes it. */
  async withSource(
    write: (folder: string) => Promise<void>,
    work: (folder: string, size: number) => Promise<void>,
  ): Promise<void> {
    const source = path.join(this.folder, 'source')
    await mkdir(source)
    try {
      await write(source)
      await work(source, await storedBytes(source))
    } finally {
      await rm(source, { recursive: true })
    }
  }

  /** Backs the input up into a repository that is removed afterwards. */
  async backUpOnce(contestant: Contestant, input: Input, round: number): Promise<Result> {
    const repository = path.join(this.folder, `repository-${round}`)
    const measured = await contestant.run(input, repository)
    const stored = await storedBytes(repository)
    await removeRepository(repository)
    return { ...measured, stored }
  }

  /** The same again and again, into new repositories. */
  async compare(title: string, size: number, input: Input, by: readonly Contestant[] = this.present): Promise<void> {
    await this.inTurns({ title: `${title}, ${megabytes(size)} MB`, size }, by, (one, round) => this.backUpOnce(one, input, round))
  }

  /** Every contestant once a round, each round beginning with another: what slows the machine down then hits all. */
  async inTurns(
    table: Table,
    by: readonly Contestant[],
    run: (contestant: Contestant, round: number) => Promise<Result>,
    rounds = this.options.rounds,
  ): Promise<void> {
    const results = new Map<string, Result[]>(by.map(({ name }) => [name, []]))
    for (let round = 0; round < rounds; round += 1) {
      const order = [...by.slice(round % by.length), ...by.slice(0, round % by.length)]
      for (const contestant of order) {
        await runCommand('sync', [])
        results.get(contestant.name)?.push(await run(contestant, round))
      }
    }
    print(table, results, holdfast.name)
  }

  repositoryOf(contestant: Contestant): string {
    return path.join(this.folder, `of-${this.present.indexOf(contestant)}`)
  }

  /** A first backup by each, which stays for what comes then. */
  async backUpFirst(input: Input, by: readonly Contestant[]): Promise<void> {
    for (const contestant of by) await contestant.run(input, this.repositoryOf(contestant))
  }

  /** One more backup by each in every round, and what it stored besides. */
  async backUpAgain(title: string, input: Input, size: number, by: readonly Contestant[], rounds = 1): Promise<void> {
    const table = { title, size, stored: 'new MiB' } as const
    const again = async (contestant: Contestant) => {
      const repository = this.repositoryOf(contestant)
      const before = await storedBytes(repository)
      const measured = (await contestant.again?.(input, repository)) as Measured
      return { ...measured, stored: (await storedBytes(repository)) - before }
    }
    await this.inTurns(table, by, again, rounds)
  }

  async removeAll(by: readonly Contestant[]): Promise<void> {
    for (const contestant of by) await removeRepository(this.repositoryOf(contestant))
  }
}
