import type { PgDatabase, PgQueryResultHKT } from 'drizzle-orm/pg-core'
import type * as schema from './schema/schema.ts'

/**
 * A connection pool or one transaction of it. Stores take it and work with either. Called on a transaction,
 * `.transaction()` makes a savepoint.
 */
export type Db = PgDatabase<PgQueryResultHKT, typeof schema>

/**
 * The state of the fleet in SQL, on the embedded PGlite or on a PostgreSQL server; the same schema and statements.
 *
 * Contract:
 * - `transaction` commits when `fn` resolves and rolls back when it throws. After a deadlock `fn` is called again, so it
 *   does nothing but SQL. Inside it only the given `tx` is used: the embedded catalog has a single session, and a
 *   statement on `db` would wait for the transaction for ever.
 * - `notify` and `listen` wake; they carry nothing that has to arrive. Channels are lower-case identifiers, payloads at
 *   most 7,000 bytes.
 * - errors: `catalog_unreachable` when the server is away, `conflict` for a unique key that exists (stores turn those that
 *   they expect into their own codes first).
 */
export interface Catalog {
  readonly kind: 'embedded' | 'postgres'
  readonly db: Db
  transaction<T>(fn: (tx: Db) => Promise<T>): Promise<T>
  notify(channel: string, payload: string): Promise<void>
  /** Resolves when listening. The function it gives ends it. */
  listen(channel: string, fn: (payload: string) => void): Promise<() => Promise<void>>
  /** Once; open listeners end. */
  close(): Promise<void>
}
