import path from 'node:path'
import type { Bench } from '../bench.ts'
import { writeDump } from '../corpora/dump.ts'

/** One dump file. */
export async function file(bench: Bench): Promise<void> {
  const { mb, seed } = bench.options
  await bench.withSource(
    (folder) => writeDump(path.join(folder, 'dump.sql'), mb * 1e6, seed),
    (folder, size) => bench.compare('one dump file', size, { folder, database: null }),
  )
}
