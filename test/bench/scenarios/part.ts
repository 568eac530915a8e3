import { rm } from 'node:fs/promises'
import path from 'node:path'
import { runCommand } from '../../harness/commands.ts'
import type { Bench } from '../bench.ts'
import { rewriteShare } from '../corpora/changes.ts'
import { writeDump } from '../corpora/dump.ts'
import { holdfast, restorePart } from '../holdfast.ts'
import { storedBytes } from '../measure.ts'
import { megabytes, row } from '../report.ts'

const TABLES = 100
/** The one that is restored: 1 % of all. */
const WANTED = 42
/** Of the others so many change in an incremental, so that no source has to be read whole for it. */
const CHANGED = 10

/** What a restore of one table of a hundred reads, of a full and after incrementals of 1 %, each of which changed 1 % of that table too. */
export async function part(bench: Bench): Promise<void> {
  const { mb, seed, incrementals } = bench.options
  const repository = bench.repositoryOf(holdfast)
  await bench.withSource(
    async (folder) => {
      for (let n = 0; n < TABLES; n++) await writeDump(tableIn(folder, n), (mb * 1e6) / TABLES, seed + n)
    },
    async (folder, size) => {
      const input = { folder, database: null }
      await holdfast.run(input, repository)
      const stored = await storedBytes(repository)
      console.log(`\none of ${TABLES} tables, ${megabytes(size)} MB, ${megabytes(stored)} MB stored: what its restore reads`)
      console.log(row('', ['read KB', 'of them manifests', 'of what the full stored', 'of what is stored']))
      await restoreOne(bench, folder, stored, 'from a full')
      for (let n = 1; n <= incrementals; n++) {
        await rewriteShare(tableIn(folder, WANTED), 0.01, seed + n)
        for (let other = 0; other < CHANGED; other++)
          await rewriteShare(tableIn(folder, (n * CHANGED + other) % TABLES), 0.1, seed + n * TABLES + other)
        await holdfast.again?.(input, repository)
      }
      await restoreOne(bench, folder, stored, `after ${incrementals}`)
      await bench.removeAll([holdfast])
    },
  )
}

const tableIn = (folder: string, n: number) => path.join(folder, `table-${String(n).padStart(2, '0')}`)

/** `stored`: by the full. */
async function restoreOne(bench: Bench, folder: string, stored: number, name: string): Promise<void> {
  const to = path.join(bench.folder, 'target')
  const wanted = tableIn('', WANTED)
  const { receivedBytes, manifestBytes } = await restorePart(bench.repositoryOf(holdfast), to, wanted)
  await runCommand('cmp', [path.join(folder, wanted), path.join(to, wanted)])
  await rm(to, { recursive: true })
  const read = receivedBytes + manifestBytes
  const share = (of: number) => `${((100 * read) / of).toFixed(2)} %`
  const all = await storedBytes(bench.repositoryOf(holdfast))
  console.log(row(name, [(read / 1000).toFixed(0), (manifestBytes / 1000).toFixed(0), share(stored), share(all)]))
}
