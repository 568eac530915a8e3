import { mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { runCommand } from '../../harness/commands.ts'
import type { PostgresServer } from '../../harness/postgres.ts'
import type { Bench } from '../bench.ts'
import { storedBytes } from '../measure.ts'
import { megabytes } from '../report.ts'
import { withDatabase } from './database.ts'

const PAGE_BYTES = 8192
/** Makes 1.4 GB of files where the others have 1 GB. */
const SHARE = 1.12

/** The files of a PostgreSQL database, as pages: what an incremental stores after 1 % of its rows changed, everywhere and in one place. */
export async function pages(bench: Bench): Promise<void> {
  await withDatabase(18, { tables: 1, mb: bench.options.mb * SHARE }, async (server) => {
    const folder = path.join(bench.folder, 'pages')
    const input = { folder, database: null, pageBytes: PAGE_BYTES }
    const by = bench.repositories
    await copyFiles(server, folder)
    await bench.backUpFirst(input, by)
    await server.sql('bench', 'update orders set amount = amount + 1 where abs(hashint8extended(id, 42) % 100) = 7')
    await copyFiles(server, folder)
    const size = await storedBytes(folder)
    const title = `files of PostgreSQL, ${megabytes(size)} MB`
    await bench.backUpAgain(`${title}: the next backup after 1 % of the rows changed everywhere`, input, size, by)
    const middle = `(select max(id) / 2 from orders)`
    const count = `(select max(id) / 100 from orders)`
    await server.sql('bench', `update orders set amount = amount + 1 where id >= ${middle} and id < ${middle} + ${count}`)
    await copyFiles(server, folder)
    await bench.backUpAgain(`${title}: after 1 % changed in one place`, input, size, by)
    await bench.removeAll(by)
    await rm(folder, { recursive: true })
  })
}

/** As a stopped server's would be: nobody is connected, and a checkpoint has written everything. Without the write-ahead log. */
async function copyFiles(server: PostgresServer, folder: string): Promise<void> {
  await server.sql('bench', 'checkpoint')
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder)
  await runCommand('cp', ['-a', path.join(server.dataFolder, 'base'), folder])
}
