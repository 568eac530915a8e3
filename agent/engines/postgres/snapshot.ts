import { HoldfastError } from '../../../shared/errors.ts'
import { ident } from './quote.ts'
import type { Session } from './session.ts'
import { listTables, type Table } from './tables.ts'

/** A transaction that holds one moment of the database for others to join, for as long as `session` is open. */
export interface Snapshot {
  readonly id: string
  readonly tables: readonly Table[]
}

const TABLES_A_LOCK = 200
/** Longer, and everything is let go for a while: whoever waits behind us waits as long. */
const LOCK_WAIT = '60s'

/**
 * Locks first, looks afterwards: TRUNCATE and some forms of ALTER TABLE are not MVCC-safe (PostgreSQL 18, 13.6), so a table
 * that is emptied after the snapshot was taken would be backed up empty. LOCK TABLE itself takes no snapshot. Throws
 * `source_changed` when tables came, went or were renamed meanwhile: the caller rolls back and begins anew.
 */
export async function takeSnapshot(session: Session): Promise<Snapshot> {
  const before = await listTables(session)
  await session.run(`begin isolation level repeatable read, read only; set local lock_timeout = '${LOCK_WAIT}'`)
  await lock(session, before)
  const tables = await listTables(session)
  if (!sameTables(before, tables)) {
    throw new HoldfastError('source_changed', 'tables were made, renamed or dropped while the snapshot was taken', {
      hint: 'Back the database up at a time when no migration runs.',
    })
  }
  const [row] = await session.rows<{ id: string }>('select pg_export_snapshot() as id')
  return { id: snapshotId(row?.id), tables }
}

/** One statement that another session runs to read at the snapshot. */
export const joinSnapshot = (id: string) => `begin isolation level repeatable read, read only; set transaction snapshot '${id}'`

async function lock(session: Session, tables: readonly Table[]): Promise<void> {
  for (let from = 0; from < tables.length; from += TABLES_A_LOCK) {
    const names = tables
      .slice(from, from + TABLES_A_LOCK)
      .map((table) => `only ${ident(table.schema)}.${ident(table.name)}`)
      .join(', ')
    await session.run(`lock table ${names} in access share mode`)
  }
}

function sameTables(before: readonly Table[], after: readonly Table[]): boolean {
  const known = new Set(before.map((table) => `${table.oid} ${table.holdsRows} ${table.part}`))
  return before.length === after.length && after.every((table) => known.has(`${table.oid} ${table.holdsRows} ${table.part}`))
}

/** It goes into a statement of psql and an argument of pg_dump, and the server is not trusted. */
function snapshotId(id: string | undefined): string {
  if (id !== undefined && /^[0-9A-F][0-9A-F-]{0,60}$/i.test(id)) return id
  throw new HoldfastError('source_corrupt', 'the server gave no usable name for its snapshot', {
    hint: 'Check that the address is that of a PostgreSQL server and not of a pooler in transaction mode.',
  })
}
