import type { Bench } from '../bench.ts'
import { writeSmallFiles } from '../corpora/small-files.ts'

/** Many small files. */
export async function small(bench: Bench): Promise<void> {
  const { files, seed } = bench.options
  await bench.withSource(
    (folder) => writeSmallFiles(folder, files, seed),
    (folder, size) => bench.compare(`${files} small files`, size, { folder, database: null }),
  )
}
