import { drizzle } from 'drizzle-orm/postgres-js'
import postgres from 'postgres'
import { type Clock, systemClock } from '../../shared/clock.ts'
import type { Secret } from '../../shared/secret.ts'
import type { Catalog, Db } from './catalog.ts'
import { migrateCatalog } from './migrate.ts'
import { Pool } from './pool.ts'
import * as schema from './schema/schema.ts'
import { catalogError, notifyIn } from './sql.ts'
import { translateErrors } from './translate-errors.ts'

/** A PostgreSQL server, 14 or later, shared by several control planes. */
export async function openServer(url: Secret, clock: Clock = systemClock): Promise<Catalog> {
  const connect = (onclose?: () => void) =>
    postgres(url.reveal(), {
      max: 10,
      connect_timeout: 10,
      idle_timeout: 300,
      // "already exists, skipping" and the like go nowhere a person looks
      onnotice: () => undefined,
      ...(onclose ? { onclose } : {}),
      connection: {
        application_name: 'holdfast',
        TimeZone: 'UTC',
        // a control plane that is stopped inside a transaction must not hold its locks for ever
        idle_in_transaction_session_timeout: 30_000,
        statement_timeout: 120_000,
      },
    })
  const pool = new Pool((onclose) => {
    const client = connect(onclose)
    // it takes the client's own reading of times and JSON out
    drizzle(client)
    return client
  }, clock)
  const db = translateErrors(drizzle(pool as unknown as postgres.Sql, { schema }) as unknown as Db)
  // it listens anew by itself whenever its connection has ended
  const listener = connect()
  const close = async () => {
    await Promise.all([pool.end({ timeout: 5 }), listener.end({ timeout: 5 })])
  }
  try {
    await migrateCatalog(db)
  } catch (error) {
    await close()
    throw catalogError(error)
  }
  return {
    kind: 'postgres',
    db,
    transaction: (fn) => db.transaction(fn),
    notify: (channel, payload) => notifyIn(db, channel, payload),
    listen: async (channel, fn) => (await listener.listen(channel, fn)).unlisten,
    close,
  }
}
