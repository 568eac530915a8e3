import type { PostgresServer } from './postgres.ts'

/** Names as they occur nowhere but are allowed everywhere. */
export const ODD_NAMES: readonly string[] = [
  'Mixed Case "quoted"',
  "it's",
  'two\nlines',
  '-leading dash',
  '--section=data',
  'ünïcødé ☃ 𝔘',
  'back\\slash',
  '$(touch holdfast-pwned)',
  '`id`; \\! touch holdfast-pwned',
  'a=b host=evil',
  '%s%n *?[a-z]',
  ' blanks ',
  'tab\tand\rreturn',
  'dot.in.it',
  'select',
]

export interface OddDatabase {
  readonly name: string
  /** Changes rows of many tables at once, consistently: `select sum(balance) from app.accounts` is always 0. */
  write(): Promise<void>
  /** Writers until `stop`, which gives how many changes were made. */
  keepWriting(): { stop(): Promise<number> }
}

/** Roles are of the whole server. */
const ROLES = ['app_owner', 'Odd "role"', "o'role\nline"]

const quote = (name: string) => `"${name.replaceAll('"', '""')}"`
const text = (value: string) => `E'${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`

/**
 * A database with everything that a backup may forget: pgbench's tables, large objects, partitions (by range, list and hash of
 * an enum), inheritance, a materialised view, generated and identity columns, sequences, domains, functions, triggers, rules,
 * policies, comments, grants, defaults, statistics, settings of the database, and odd names for all of it.
 */
export async function makeOddDatabase(
  server: PostgresServer,
  options: { name?: string; pgbenchScale?: number } = {},
): Promise<OddDatabase> {
  const name = options.name ?? 'odd "db"\n-é'
  await server.sql('postgres', `create database ${quote(name)}`)
  for (const role of ROLES) {
    const [there] = await server.sql('postgres', `select from pg_roles where rolname = ${text(role)}`)
    if (!there) await server.sql('postgres', `create role ${quote(role)}`)
  }
  if (options.pgbenchScale !== 0) await server.tool('pgbench', name, ['-i', '-q', '-s', String(options.pgbenchScale ?? 1)])
  await server.sql(name, schema(server.major))
  for (const [index, odd] of ODD_NAMES.entries()) await server.sql(name, oddTable(odd, index))
  await server.sql(name, largeObjects())
  await server.sql(name, databaseSettings(name))
  const write = async () => {
    await server.sql(name, CHANGE)
  }
  return { name, write, keepWriting: () => writers(server, name) }
}

function schema(major: number): string {
  const stored = `total numeric generated always as (price * amount) stored`
  const virtual = major >= 18 ? ', doubled numeric generated always as (price * 2) virtual' : ''
  return `
    create schema app authorization app_owner;
    create type app.mood as enum ('sad', 'ok', 'happy');
    create domain app.positive as integer check (value > 0);
    create type app.pair as (a integer, b text);
    create function app.twice(integer) returns integer language sql immutable as 'select $1 * 2';
    create sequence app.tickets start 1000 increment 7; select setval('app.tickets', 4242);
    create sequence app.fresh; create sequence app.big; select setval('app.big', 9223372036854775806, false);
    create table app.items (
      id bigint generated always as identity (start 500), code text not null default 'x' || nextval('app.tickets'),
      price numeric(12, 2) not null, amount app.positive not null, ${stored}${virtual},
      mood app.mood, pair app.pair, tags text[], doc jsonb, raw bytea, at timestamptz default '2026-01-01 00:00:00+00',
      span interval, ratio double precision, gone integer, primary key (id));
    alter table app.items drop column gone;
    alter table app.items owner to app_owner;
    insert into app.items (price, amount, mood, pair, tags, doc, raw, span, ratio)
      select i * 1.37, i, (array['sad', 'ok', 'happy'])[1 + i % 3]::app.mood, row(i, 'p' || i)::app.pair,
             array['a' || i, null, E'tab\\t"q"'], jsonb_build_object('i', i, 'nl', E'a\\nb\\\\c'), decode(md5(i::text), 'hex'),
             make_interval(days => i, secs => 0.5), 1.0 / i
      from generate_series(1, 3000) i;
    insert into app.items (price, amount, code) values (0, 1, E'\\\\.'), (0, 1, E'\\\\N'), (0, 1, ''), (0, 1, E'a\\nb\\rc\\td\\\\e');
    create index on app.items (app.twice(amount)); create unique index items_code on app.items (lower(code), id);
    create statistics app.items_stats on price, amount from app.items;
    comment on table app.items is E'it''s\\n"odd" \\\\ ☃'; comment on column app.items.code is 'a code';
    grant select (id, code) on app.items to ${quote(ROLES[1] ?? '')}; grant all on app.items to ${quote(ROLES[2] ?? '')};
    create table app.lines (item bigint references app.items, n integer check (n >= 0), note text, constraint lines_pk primary key (item, n));
    insert into app.lines select 500 + i % 3000, i, repeat('note ', i % 20) from generate_series(0, 2999) i;
    create table app.parent (a integer, b text); create table app.child (c integer) inherits (app.parent);
    alter table app.child add column own text;
    insert into app.parent values (1, 'p'), (2, null); insert into app.child values (3, 'c', 4, 'o');
    create table app.nothing (); insert into app.nothing default values; insert into app.nothing default values;
    create unlogged table app.cache (k text primary key, v text); insert into app.cache values ('k', 'v');
    create table app.measures (at date not null, v integer) partition by range (at);
    create table app.measures_25 partition of app.measures for values from ('2025-01-01') to ('2026-01-01');
    create table app.measures_26 partition of app.measures for values from ('2026-01-01') to ('2027-01-01') partition by list (v);
    create table app.measures_26_a partition of app.measures_26 for values in (1, 2, 3);
    create table app.measures_26_b partition of app.measures_26 default;
    alter table app.measures add primary key (at, v);
    insert into app.measures select date '2025-06-01' + i, i from generate_series(0, 400) i;
    create table app.moods (m app.mood, n integer) partition by hash (m);
    create table app.moods_0 partition of app.moods for values with (modulus 2, remainder 0);
    create table app.moods_1 partition of app.moods for values with (modulus 2, remainder 1);
    insert into app.moods select (array['sad', 'ok', 'happy'])[1 + i % 3]::app.mood, i from generate_series(1, 300) i;
    create view app.cheap as select id, code from app.items where price < 10;
    create materialized view app.totals as select mood, count(*) as n, sum(total) as s from app.items group by mood;
    create unique index on app.totals (mood);
    create materialized view app.never as select 1 as one with no data;
    create table app.audit (at timestamptz default '2026-01-01', what text);
    create function app.note() returns trigger language plpgsql as $f$ begin insert into app.audit (what) values (tg_op); return new; end $f$;
    create trigger note after insert or update on app.lines for each row execute function app.note();
    create rule quiet as on delete to app.audit do instead nothing;
    alter table app.audit enable row level security; create policy own on app.audit using (what <> 'secret');
    insert into app.audit (what) values ('secret'), ('open');
    alter default privileges in schema app grant select on tables to app_owner;
    create table app.accounts (id integer primary key, balance bigint not null); insert into app.accounts select i, 0 from generate_series(1, 100) i;
    create procedure app.work() language sql as 'select 1';
    create aggregate app.product(integer) (sfunc = int4mul, stype = integer, initcond = '1');
    create collation app.plain (provider = libc, locale = 'C');
    create table app.words (w text collate app.plain); insert into app.words values ('b'), ('A'), ('ä');`
}

function oddTable(odd: string, index: number): string {
  const schemaName = index % 3 === 0 ? quote(`s ${odd}`.slice(0, 40)) : 'public'
  const table = `${schemaName}.${quote(odd)}`
  return `
    ${index % 3 === 0 ? `create schema ${schemaName};` : ''}
    create table ${table} (${quote(odd)} serial primary key, ${quote(`v ${odd}`)} text default ${text(odd)}, "user" integer);
    insert into ${table} ("user") select i from generate_series(1, ${10 + index}) i;
    create index ${quote(`i ${odd}`)} on ${table} (${quote(`v ${odd}`)});
    comment on table ${table} is ${text(`${odd}\n\\.\n`)};
    alter table ${table} owner to ${quote(ROLES[index % 3] ?? '')};`
}

function largeObjects(): string {
  return `
    select lo_from_bytea(0, decode(repeat(md5(i::text), 2000 * i), 'hex')) from generate_series(1, 4) i;
    select lo_from_bytea(777777, ''); select lo_create(777778); grant select on large object 777777 to app_owner;
    comment on large object 777777 is 'an empty one';`
}

function databaseSettings(name: string): string {
  const database = quote(name)
  return `
    alter database ${database} set search_path to "$user", app, public;
    alter database ${database} set "holdfast.test" to ${text("it's = odd")};
    alter role app_owner in database ${database} set work_mem to '5MB';
    grant connect on database ${database} to ${quote(ROLES[1] ?? '')}; revoke temporary on database ${database} from public;
    comment on database ${database} is ${text("it's \\ odd")};
    alter database ${database} owner to app_owner;`
}

/** Moves between two accounts: at any moment of the database the sum is 0. Other tables' rows come and go with it. */
const CHANGE = `
  begin;
  update app.accounts set balance = balance + 7 where id = 3;
  update app.accounts set balance = balance - 7 where id = 77;
  insert into app.lines select 500 + (random() * 2999)::int, 10000 + (random() * 1000000000)::int, 'new' on conflict do nothing;
  delete from app.measures where v = (random() * 400)::int;
  insert into app.items (price, amount, mood) values (1, 1, 'ok');
  commit`

function writers(server: PostgresServer, name: string): { stop(): Promise<number> } {
  let going = true
  let changes = 0
  const one = async () => {
    const sql = server.connect(name)
    try {
      while (going) {
        await sql.unsafe(CHANGE).simple()
        changes++
      }
    } finally {
      await sql.end({ timeout: 1 })
    }
  }
  const all = Promise.all([one(), one()])
  all.catch(() => undefined)
  return {
    stop: async () => {
      going = false
      await all
      return changes
    },
  }
}

export interface DumpOptions {
  /** What a snapshot of `server.snapshots()` shows. */
  readonly snapshot?: string
  /** Values of sequences know no snapshot: leave them out when writers ran. */
  readonly sequences?: boolean
  /** Further arguments of pg_dump. */
  readonly args?: readonly string[]
}

/** pg_dump of a database in a stable order: rows of each table sorted, without what differs from dump to dump. */
export async function stableDump(server: PostgresServer, database: string, options: DumpOptions = {}): Promise<string> {
  const args = [...(options.snapshot ? [`--snapshot=${options.snapshot}`] : []), ...(options.args ?? [])]
  const dump = await server.tool('pg_dump', database, args)
  const lines: string[] = []
  // rows by statement: those of several partitions that are loaded through their root may lie in any of them
  const rows = new Map<string, string[]>()
  let into: string[] | null = null
  for (const line of dump.split('\n')) {
    if (into && line === '\\.') {
      into = null
    } else if (into) {
      into.push(line)
    } else if (/^COPY .* FROM stdin;$/.test(line)) {
      into = rows.get(line) ?? []
      rows.set(line, into)
    } else if (
      !/^\\(un)?restrict /.test(line) &&
      !(options.sequences === false && line.startsWith('SELECT pg_catalog.setval('))
    ) {
      lines.push(line)
    }
  }
  for (const [statement, some] of [...rows].sort()) lines.push(statement, ...some.sort())
  return lines.join('\n')
}

/** Null when both databases are the same; otherwise the first place where they are not. The judge is pg_dump alone. */
export async function samePostgres(
  a: { server: PostgresServer; database: string } & DumpOptions,
  b: { server: PostgresServer; database: string } & DumpOptions,
): Promise<string | null> {
  const [left, right] = [await stableDump(a.server, a.database, a), await stableDump(b.server, b.database, b)]
  return firstDifference(left, right)
}

export function firstDifference(left: string, right: string): string | null {
  if (left === right) return null
  const [a, b] = [left.split('\n'), right.split('\n')]
  const at = a.findIndex((line, index) => line !== b[index])
  const place = at < 0 ? a.length : at
  const around = (lines: string[]) => lines.slice(Math.max(0, place - 3), place + 3).join('\n')
  return `line ${place + 1} of ${a.length} and ${b.length}:\n--- first\n${around(a)}\n--- second\n${around(b)}`
}
