import type { Bench } from '../bench.ts'
import { writeModels } from '../corpora/binaries.ts'

/** Files that no program makes much smaller: trying to costs time for nothing. */
export async function models(bench: Bench): Promise<void> {
  const { mb, seed } = bench.options
  await bench.withSource(
    (folder) => writeModels(folder, mb * 1e6, seed),
    (folder, size) => bench.compare('weights of a model and a gzip archive', size, { folder, database: null }),
  )
}
