import path from 'node:path'
import type { Bench } from '../bench.ts'
import { writeImage } from '../corpora/binaries.ts'
import { editDump, overwrite } from '../corpora/changes.ts'
import { writeDump } from '../corpora/dump.ts'
import { megabytes } from '../report.ts'

const EDITS = 400

/** A dump made again after 400 rows have changed and 1 % was added: what an incremental stores. */
export function editedDump(bench: Bench): Promise<void> {
  const { mb, seed } = bench.options
  return compareEdited(bench, `the dump with ${EDITS} edits and 1 % more`, {
    write: (file) => writeDump(file, mb * 1e6, seed),
    edit: (file) => editDump(file, EDITS, seed),
  })
}

/** A file like a disk's image in which 64 bytes have changed in 400 places. */
export function editedFile(bench: Bench): Promise<void> {
  const { mb, seed } = bench.options
  return compareEdited(bench, `a file changed in ${EDITS} places`, {
    write: (file) => writeImage(file, mb * 1e6, seed),
    edit: (file) => overwrite(file, EDITS, 64, seed),
  })
}

async function compareEdited(
  bench: Bench,
  title: string,
  { write, edit }: { write: (file: string) => Promise<void>; edit: (file: string) => Promise<void> },
): Promise<void> {
  const at = (folder: string) => path.join(folder, 'file')
  const by = bench.repositories
  await bench.withSource(
    (folder) => write(at(folder)),
    async (folder, size) => {
      const input = { folder, database: null }
      await bench.backUpFirst(input, by)
      await edit(at(folder))
      await bench.backUpAgain(`${title}, ${megabytes(size)} MB: the next backup`, input, size, by)
      await bench.removeAll(by)
    },
  )
}
