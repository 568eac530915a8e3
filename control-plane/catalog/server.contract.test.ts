import { sql } from 'drizzle-orm'
import { expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { Secret } from '../../shared/secret.ts'
import { postgresTools, startPostgres } from '../../test/harness/postgres.ts'
import { startTcpProxy } from '../../test/harness/tcp-proxy.ts'
import { waitFor } from '../../test/harness/wait.ts'
import { openCatalog } from './open.ts'
import { agents } from './schema/schema.ts'
import { openServer } from './server.ts'
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

test.skipIf(tools === null)(
  'connections that are reset, also in the middle of transactions, cost what was under way, and every later statement has its own answer',
  async () => {
    const server = await startPostgres(15)
    if (!server) throw new Error('PostgreSQL 15 was there a moment ago')
    await using proxy = await startTcpProxy(server.port)
    const address = new URL(server.url('postgres'))
    address.password = encodeURIComponent(server.password)
    address.port = String(proxy.port)
    const clock = new FakeClock('2026-11-21T12:00:00Z')
    const catalog = await openServer(new Secret(address.href), clock)
    const heard: string[] = []
    await catalog.listen('jobs', (payload) => heard.push(payload))
    // whoever sleeps when he is reset sleeps on
    const sleep = (round: number) => `select pg_sleep(${60 + round})`
    const tenSleep = async (round: number) => {
      const [found] = await server.sql(
        'postgres',
        `select count(*)::int as n from pg_stat_activity where query = '${sleep(round)}' and state = 'active'`,
      )
      return found?.n === 10
    }

    for (let round = 0; round < 2; round++) {
      const inTransactions = Array.from({ length: 6 }, () => catalog.transaction((tx) => tx.execute(sql.raw(sleep(round)))))
      // asked again at once, as whoever repeats what failed does
      const alone = Array.from({ length: 4 }, () => {
        const sleeping = catalog.db.execute(sql.raw(sleep(round)))
        return sleeping.catch(() => catalog.db.select().from(agents))
      })
      const lost = Promise.allSettled([...inTransactions, ...alone])
      await waitFor('ten sleeping connections', () => tenSleep(round))
      proxy.cut()
      let over = false
      void lost.then(() => {
        over = true
      })
      await waitFor('all that was under way to fail', async () => {
        await clock.advance(30_000)
        return over
      })
      for (const outcome of await lost)
        expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'catalog_unreachable' } })
      proxy.mend()
      const numbers = Array.from({ length: 50 }, (_, n) => n)
      const answers = await Promise.all(
        numbers.map((n) =>
          n % 5 === 0
            ? catalog.transaction((tx) => rowsOf<{ n: number }>(tx, sql`select ${n}::int as n`))
            : rowsOf<{ n: number }>(catalog.db, sql`select ${n}::int as n`),
        ),
      )
      expect(answers).toEqual(numbers.map((n) => [{ n }]))
    }
    await waitFor('a notice', async () => {
      await catalog.notify('jobs', 'again')
      return heard.length > 0
    })
    await catalog.close()
    await server.stop()
  },
)
