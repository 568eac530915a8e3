import { sql } from 'drizzle-orm'
import { expect, test } from 'vitest'
import { Secret } from '../../shared/secret.ts'
import { postgresTools, startPostgres } from '../../test/harness/postgres.ts'
import { openCatalog } from './open.ts'
import { agents } from './schema/schema.ts'
import { rowsOf } from './sql.ts'

const tools = await postgresTools(15)

test.skipIf(tools === null)(
  'a catalog on a server: starters wait for each other, and one that is away is said to be unreachable',
  async () => {
    const server = await startPostgres(15)
    if (!server) throw new Error('PostgreSQL 15 was there a moment ago')
    const address = new URL(server.url('postgres'))
    address.password = encodeURIComponent(server.password)
    const url = new Secret(address.href)
    const opened = await Promise.all([1, 2, 3].map(() => openCatalog({ kind: 'postgres', url })))
    const [catalog, ...others] = opened
    if (!catalog) throw new Error('not opened')
    const [migrations] = await rowsOf<{ n: number }>(catalog.db, sql`select count(*)::int as n from holdfast_schema.migrations`)
    expect(migrations?.n).toBe(1)
    await catalog.db.execute(sql`insert into holdfast_schema.migrations (hash, number) values ('of the future', 1)`)
    await expect(openCatalog({ kind: 'postgres', url })).rejects.toMatchObject({ code: 'catalog_newer' })
    for (const other of others) await other.close()
    await server.stop()
    await expect(catalog.db.select().from(agents)).rejects.toMatchObject({ code: 'catalog_unreachable' })
    await expect(catalog.transaction((tx) => tx.select().from(agents))).rejects.toMatchObject({ code: 'catalog_unreachable' })
    await expect(openCatalog({ kind: 'postgres', url })).rejects.toMatchObject({ code: 'catalog_unreachable' })
    const shown = await openCatalog({ kind: 'postgres', url }).catch((error: Error) => `${error.stack} ${JSON.stringify(error)}`)
    expect(shown).not.toContain(address.password)
    await catalog.close()
  },
)
