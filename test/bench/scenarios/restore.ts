import { rm } from 'node:fs/promises'
import path from 'node:path'
import { runCommand } from '../../harness/commands.ts'
import type { Bench } from '../bench.ts'
import type { Contestant, Input } from '../contestant.ts'
import { rewriteShare } from '../corpora/changes.ts'
import { writeDump } from '../corpora/dump.ts'
import { storedBytes } from '../measure.ts'
import { megabytes } from '../report.ts'

/** The dump file, backed up once by each and restored by each once a round. */
export async function restore(bench: Bench): Promise<void> {
  const { mb, seed } = bench.options
  await bench.withSource(
    (folder) => writeDump(fileIn(folder), mb * 1e6, seed),
    async (folder, size) => {
      await bench.backUpFirst({ folder, database: null }, bench.present)
      await compareRestores(bench, 'restore of the dump file', { folder, size }, bench.present)
    },
  )
}

/** The same after incrementals, each of which has seen another hundredth of the file rewritten. */
export async function chain(bench: Bench): Promise<void> {
  const { mb, seed, incrementals } = bench.options
  const by = bench.repositories
  await bench.withSource(
    (folder) => writeDump(fileIn(folder), mb * 1e6, seed),
    async (folder, size) => {
      const input: Input = { folder, database: null }
      await bench.backUpFirst(input, by)
      for (let n = 1; n <= incrementals; n++) {
        await rewriteShare(fileIn(folder), 0.01, seed + n)
        for (const contestant of by) await contestant.again?.(input, bench.repositoryOf(contestant))
      }
      await compareRestores(bench, `restore of the dump file after ${incrementals} incrementals of 1 %`, { folder, size }, by)
    },
  )
}

const fileIn = (folder: string) => path.join(folder, 'dump.sql')

async function compareRestores(
  bench: Bench,
  title: string,
  { folder, size }: { folder: string; size: number },
  by: readonly Contestant[],
): Promise<void> {
  await bench.inTurns({ title: `${title}, ${megabytes(size)} MB`, size }, by, async (contestant) => {
    const to = path.join(bench.folder, 'target')
    const repository = bench.repositoryOf(contestant)
    const measured = await contestant.restore({ folder, database: null }, repository, to)
    // throws where a byte differs
    await runCommand('cmp', [fileIn(folder), fileIn(to)])
    await rm(to, { recursive: true })
    return { ...measured, stored: await storedBytes(repository) }
  })
  await bench.removeAll(by)
}
