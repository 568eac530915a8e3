import type { Bench } from '../bench.ts'
import { writeSmallFiles } from '../corpora/small-files.ts'
import { megabytes } from '../report.ts'

/** Many small files, and the same again when nothing of them has changed. */
export async function small(bench: Bench): Promise<void> {
  const { files, rounds, seed } = bench.options
  await bench.withSource(
    (folder) => writeSmallFiles(folder, files, seed),
    async (folder, size) => {
      const input = { folder, database: null }
      await bench.compare(`${files} small files`, size, input)
      const by = bench.repositories
      await bench.backUpFirst(input, by)
      await bench.backUpAgain(`${files} small files unchanged, ${megabytes(size)} MB: the next backup`, input, size, by, rounds)
      await bench.removeAll(by)
    },
  )
}
