import type { Bench } from '../bench.ts'
import { writeMix } from '../corpora/binaries.ts'

/** Programs, libraries, rows, logs and compressed files, three times as much as of the others. */
export async function mix(bench: Bench): Promise<void> {
  const { mb, seed } = bench.options
  await bench.withSource(
    (folder) => writeMix(folder, 3 * mb * 1e6, seed),
    (folder, size) => bench.compare('binaries and text', size, { folder, database: null }, bench.repositories),
  )
}
