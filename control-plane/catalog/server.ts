import { drizzle } from 'drizzle-orm/postgres-js'
import postgres from 'postgres'
import type { Secret } from '../../shared/secret.ts'
import type { Catalog, Db } from './catalog.ts'
import { migrateCatalog } from './migrate.ts'
import * as schema from './schema/schema.ts'
import { catalogError, notifyIn } from './sql.ts'
import { translateErrors } from './translate-errors.ts'

/** A PostgreSQL server, 14 or later, shared by several control planes. */
export async function openServer(url: Secret): Promise<Catalog> {
  const client = postgres(url.reveal(), {
    max: 10,
    connect_timeout: 10,
    idle_timeout: 300,
    // "already exists, skipping" and the like go nowhere a person looks
    onnotice: () => undefined,
    connection: {
      application_name: 'holdfast',
      TimeZone: 'UTC',
      // a control plane that is stopped inside a transaction must not hold its locks for ever
      idle_in_transaction_session_timeout: 30_000,
      statement_timeout: 120_000,
    },
  })
  const db = translateErrors(drizzle(client, { schema }) as unknown as Db)
  try {
    await migrateCatalog(db)
  } catch (error) {
    await client.end({ timeout: 5 })
    throw catalogError(error)
  }
  return {
    kind: 'postgres',
    db,
    transaction: (fn) => db.transaction(fn),
    notify: (channel, payload) => notifyIn(db, channel, payload),
    listen: async (channel, fn) => (await client.listen(channel, fn)).unlisten,
    close: () => client.end({ timeout: 5 }),
  }
}
