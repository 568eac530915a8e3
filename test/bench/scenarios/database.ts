import path from 'node:path'
import { type PostgresMajor, type PostgresServer, startPostgres } from '../../harness/postgres.ts'
import type { Database } from '../contestant.ts'
import { fillTable } from '../corpora/dump.ts'

/** A server with a database `bench` of so many tables, about `mb` in all as pg_dump writes it. */
export async function withDatabase(
  major: PostgresMajor,
  { tables, mb }: { tables: number; mb: number },
  work: (server: PostgresServer, database: Database) => Promise<void>,
): Promise<void> {
  const server = await startPostgres(major, { settings: { shared_buffers: '512MB', max_wal_size: '8GB' } })
  if (server === null) return console.log(`\nno PostgreSQL ${major} could be had: its database is left out`)
  try {
    await server.sql('postgres', 'create database bench')
    for (let n = 0; n < tables; n++) {
      const name = n === 0 ? 'orders' : `orders_${n}`
      const rows = Math.round((mb * 5900) / tables)
      await server.sql('bench', fillTable(name, rows, 1 + n * rows))
    }
    await server.sql('bench', 'vacuum (freeze, analyze)')
    await work(server, databaseOf(server))
  } finally {
    await server.stop()
  }
}

function databaseOf(server: PostgresServer): Database {
  const { tools, port, password } = server
  return {
    env: { PGHOST: '127.0.0.1', PGPORT: String(port), PGUSER: 'postgres', PGPASSWORD: password, PGDATABASE: 'bench' },
    pgDump: path.join(tools, 'pg_dump'),
    config: { url: server.url('bench'), password, tools: [tools] },
  }
}
