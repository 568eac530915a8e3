import { type SQL, sql } from 'drizzle-orm'
import { HoldfastError } from '../../shared/errors.ts'
import type { Db } from './catalog.ts'

/** Rows of a raw statement: PGlite answers `{ rows }`, postgres.js an array. Times come as text, int8 as text or number. */
export async function rowsOf<T extends Record<string, unknown>>(db: Db, statement: SQL): Promise<T[]> {
  const result: unknown = await db.execute(statement)
  return (Array.isArray(result) ? [...result] : (result as { rows: T[] }).rows) as T[]
}

/** A channel name or payload out of bounds never reaches SQL. Part of the transaction: sent when it commits. */
export async function notifyIn(tx: Db, channel: string, payload: string): Promise<void> {
  if (!/^[a-z][a-z0-9_]{0,62}$/.test(channel) || Buffer.byteLength(payload) > 7000) {
    throw new HoldfastError('internal', `notification on channel ${JSON.stringify(channel)} is out of bounds`)
  }
  await tx.execute(sql`select pg_notify(${channel}, ${payload})`)
}

/** The server's own error under whatever wrapped it (drizzle wraps once), by its SQLSTATE. */
export function sqlError(error: unknown): { code: string; constraint: string | undefined } | undefined {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    const { code, constraint, constraint_name } = at as { code?: unknown; constraint?: unknown; constraint_name?: unknown }
    if (typeof code !== 'string' || !/^[0-9A-Z]{5}$/.test(code)) continue
    const name = constraint ?? constraint_name
    return { code, constraint: typeof name === 'string' ? name : undefined }
  }
  return undefined
}

/** True for a duplicate of this unique index or constraint. */
export function isDuplicate(error: unknown, constraint: string): boolean {
  const found = sqlError(error)
  return found?.code === '23505' && found.constraint === constraint
}

/** Serialisation failure or deadlock: the same transaction may be run again. */
export function isRepeatable(error: unknown): boolean {
  const code = sqlError(error)?.code
  return code === '40001' || code === '40P01'
}

/** SQLSTATE classes 08 and 57P, and what sockets and postgres.js say when the server is away. */
const AWAY =
  /^(08...|57P0[1-3]|53300|E(CONNREFUSED|CONNRESET|PIPE|HOSTUNREACH|NOTFOUND|TIMEDOUT|AI_AGAIN)|CONNECT(ION)?_(CLOSED|ENDED|DESTROYED|TIMEOUT))$/

/** Errors of drivers as ours; others pass unchanged. */
export function catalogError(error: unknown): unknown {
  if (error instanceof HoldfastError) return error
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    const code = (at as { code?: unknown }).code
    if (typeof code === 'string' && AWAY.test(code)) {
      return new HoldfastError('catalog_unreachable', `the catalog cannot be reached (${code})`, {
        hint: 'Check that the PostgreSQL server of the catalog runs and accepts connections from this host.',
        cause: error,
      })
    }
  }
  const known = sqlError(error)
  if (known?.code === '53100') {
    return new HoldfastError('disk_full', 'no room is left on the disk of the catalog', {
      hint: 'Make room on that disk: nothing can be recorded, and so nothing begun, until then. What was acknowledged before is there.',
      cause: error,
    })
  }
  if (known?.code === 'XX001' || known?.code === 'XX002') {
    return new HoldfastError('catalog_damaged', 'the catalog has a damaged page', {
      hint: 'Start with --rebuild-catalog, or restore the database of the catalog from its own backup.',
      cause: error,
    })
  }
  if (known?.code === '23505') {
    return new HoldfastError('conflict', `the catalog already has such a row (${known.constraint ?? 'unique key'})`, {
      cause: error,
    })
  }
  return error
}
