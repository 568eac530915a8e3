import path from 'node:path'
import { sql } from 'drizzle-orm'
import { readMigrationFiles } from 'drizzle-orm/migrator'
import { HoldfastError } from '../../shared/errors.ts'
import type { Db } from './catalog.ts'
import { rowsOf } from './sql.ts'

const migrationsFolder = path.join(import.meta.dirname, 'migrations')

/** Hashes of this program's migrations, in order: what its schema is. */
export function knownMigrations(): string[] {
  return readMigrationFiles({ migrationsFolder }).map((migration) => migration.hash)
}

/**
 * Brings the schema to this program's. All or nothing: one transaction, so a start that is killed half-way leaves the
 * earlier schema. The advisory lock makes a second starter wait and then find nothing to do. A schema that holds a
 * migration unknown here was made by a newer program, whose data this one could misread: refused.
 */
export async function migrateCatalog(db: Db): Promise<void> {
  const known = readMigrationFiles({ migrationsFolder })
  await db.transaction(async (tx) => {
    await tx.execute(sql`select pg_advisory_xact_lock(7440, 1)`)
    await tx.execute(sql`create schema if not exists holdfast_schema`)
    await tx.execute(
      sql`create table if not exists holdfast_schema.migrations (hash text primary key, number integer not null unique, applied_at timestamptz not null default now())`,
    )
    const applied = await rowsOf<{ hash: string }>(tx, sql`select hash from holdfast_schema.migrations order by number`)
    applied.forEach((row, number) => {
      if (known[number]?.hash === row.hash) return
      throw new HoldfastError('catalog_newer', `the catalog's schema has migration ${number}, which this program does not know`, {
        hint: 'Start a program of the version that last used this catalog, or a newer one.',
      })
    })
    for (const [number, migration] of known.entries()) {
      if (number < applied.length) continue
      for (const statement of migration.sql) await tx.execute(sql.raw(statement))
      await tx.execute(sql`insert into holdfast_schema.migrations (hash, number) values (${migration.hash}, ${number})`)
    }
  })
}
