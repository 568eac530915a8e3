import path from 'node:path'
import { runCommand } from '../../harness/commands.ts'
import type { Bench } from '../bench.ts'
import type { Contestant, Database } from '../contestant.ts'
import { holdfast } from '../holdfast.ts'
import { measure } from '../measure.ts'
import { withDatabase } from './database.ts'

/** A live database of one table. */
export async function live(bench: Bench): Promise<void> {
  await withDatabase(15, { tables: 1, mb: bench.options.mb }, async (_server, database) => {
    await bench.compare('a live database', await dumpedBytes(database), { folder: '', database })
  })
}

/** One of several tables, beside pg_dump with as many workers as this project has by default. */
export async function parallel(bench: Bench): Promise<void> {
  await withDatabase(18, { tables: TABLES, mb: bench.options.mb }, async (_server, database) => {
    const size = await dumpedBytes(database)
    await bench.compare(`a live database of ${TABLES} tables`, size, { folder: '', database }, [
      holdfast,
      pgDumpDirectory(database),
    ])
  })
}

const TABLES = 6

async function dumpedBytes(database: Database): Promise<number> {
  const env = { ...database.env, PG_DUMP: database.pgDump }
  return Number(await runCommand('/bin/bash', ['-c', '"$PG_DUMP" | wc -c'], { env }))
}

/** It writes files, neither sealed nor found again by the next. */
const pgDumpDirectory = ({ pgDump, env }: Database): Contestant => ({
  name: 'pg_dump -j2 zstd:3',
  version: async () => (await runCommand(pgDump, ['--version'])).trim(),
  run: async (_input, folder) => measure(pgDump, ['-Fd', '-j2', '-Z', 'zstd:3', '-f', path.resolve(folder)], env),
  restore: async () => {
    throw new Error('it takes part in backups alone')
  },
})
