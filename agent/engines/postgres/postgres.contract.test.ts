import { describe } from 'vitest'
import { type PostgresServer, standingPostgres } from '../../../test/harness/postgres.ts'
import { stableDump } from '../../../test/harness/postgres-fixture.ts'
import { engineContract } from '../contract.ts'
import { HOSTILE_NAMES } from '../testing/names.ts'
import { type PostgresConfig, postgresConfig } from './config.ts'
import { postgresEngine } from './postgres.ts'
import { ident, literal } from './quote.ts'

const SOURCE = 'a "source" -é'
const PARTS = ['public.users', 'public."--version"']

for (const major of [15, 18] as const) {
  const server = await standingPostgres(major)
  describe.skipIf(server === null)(`postgresql ${major}`, () => {
    if (server === null) return
    engineContract<PostgresConfig>({ engine: postgresEngine, make: () => makeStore(server) })
  })
}

async function makeStore(server: PostgresServer) {
  await server.sql('postgres', `create database ${ident(SOURCE)}`)
  await server.sql(SOURCE, content())
  const rawConfig = { url: server.url(SOURCE), password: server.password, tools: [server.tools] }
  const config = postgresConfig.parse(rawConfig)
  const nameOf = (targetName: string | null) => targetName ?? SOURCE
  return {
    config,
    rawConfig,
    unreachable: postgresConfig.parse({ ...rawConfig, url: 'postgres://postgres@127.0.0.1:1/absent' }),
    secrets: [server.password],
    parts: PARTS,
    namesArePaths: false,
    mutate: async () => {
      await server.sql(
        SOURCE,
        `update users set name = 'changed' where id < 10; delete from orders where id = 5; insert into orders (note) values ('new');
         create table added (a integer); insert into added values (1); select lo_from_bytea(0, 'more')`,
      )
    },
    state: (place: { targetName: string | null }, parts?: readonly string[]) =>
      stableDump(server, nameOf(place.targetName), { args: (parts ?? []).map((part) => `--table=${part}`) }),
    holdsMoreThan: async (place: { targetName: string | null }, parts: readonly string[]) => {
      const tables = await server.sql<{ part: string }>(
        nameOf(place.targetName),
        `select format('%I.%I', schemaname, tablename) as part from pg_tables where schemaname !~ '^pg_' and schemaname <> 'information_schema'`,
      )
      return tables.some(({ part }) => !parts.includes(part))
    },
    lose: async () => {
      await server.sql(SOURCE, 'delete from orders where id = 77')
    },
    places: async () => {
      const names = await server.sql<{ name: string }>(
        'postgres',
        `select 'database ' || datname as name from pg_database union select 'role ' || rolname from pg_roles order by 1`,
      )
      return names.map(({ name }) => name)
    },
    dispose: async () => {
      const names = await server.sql<{ datname: string }>(
        'postgres',
        `select datname from pg_database where datname <> 'postgres' and not datistemplate`,
      )
      for (const { datname } of names) await server.sql('postgres', `drop database ${ident(datname)} with (force)`)
    },
  }
}

function content(): string {
  // content.contract.test.ts has all of them; here each costs some dozen restores
  const odd = HOSTILE_NAMES.slice(0, 6).map(
    (name, index) =>
      `create table ${ident(name)} (${ident(name)} serial, v text default ${literal(name)});
       insert into ${ident(name)} (v) select ${literal(name)} || i from generate_series(1, ${index}) i;`,
  )
  return `
    create table users (id integer primary key, name text not null);
    insert into users select i, 'user ' || i from generate_series(1, 500) i;
    create table orders (id serial primary key, by integer references users, note text);
    insert into orders (by, note) select i % 500 + 1, repeat('note ', 10) from generate_series(1, 2000) i;
    create index on orders (note);
    create view recent as select * from orders where id > 1990;
    create function plus(integer) returns integer language sql as 'select $1 + 1';
    select lo_from_bytea(0, 'large'); ${odd.join('\n')}`
}
