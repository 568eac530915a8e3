import { mkdir, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import type { BackupSink } from '../../../shared/artifacts.ts'
import { plainUser } from '../../../test/harness/commands.ts'
import { throwAwayFolder } from '../../../test/harness/folders.ts'
import { type PostgresServer, standingPostgres } from '../../../test/harness/postgres.ts'
import { firstDifference, stableDump } from '../../../test/harness/postgres-fixture.ts'
import { standing } from '../../../test/harness/standing.ts'
import { waitFor } from '../../../test/harness/wait.ts'
import { memorySink } from '../testing/memory.ts'
import { HOSTILE_NAMES } from '../testing/names.ts'
import { backupPlan, withRun } from '../testing/plans.ts'
import { postgresEngine } from './postgres.ts'
import { ident, literal } from './quote.ts'
import { backUp, configOf, makeDatabase, restoreTo } from './testing/bench.ts'

const extensions = standing('the folder of extensions', () => throwAwayFolder({ owner: plainUser() }))
const server = await standingPostgres(18, () => ({ settings: { extension_control_path: `$system:${extensions.path}` } }))

/** What a database may hold beyond the usual: encodings, configuration of extensions, many tables, wide ones. */
describe.skipIf(server === null)('postgresql 18', () => {
  if (server === null) return
  const roundTrip = async (database: string) => {
    const { source, backup } = await backUp(configOf(server, database))
    await restoreTo(configOf(server, database), `${database} again`, source)
    expect(firstDifference(await stableDump(server, `${database} again`), await stableDump(server, database))).toBeNull()
    return backup
  }

  test('a database in another encoding keeps its bytes and its names', async () => {
    const options = `encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0`
    await makeDatabase(
      server,
      'latin',
      `create table "tablé" ("ñ" text); insert into "tablé" values ('é ü ß ÿ'), (E'\\\\x')`,
      options,
    )
    const backup = await roundTrip('latin')
    expect(backup.streams.get('rows of public."tablé"')?.bytes.toString('latin1')).toContain('é ü ß ÿ')
    const [row] = await server.sql(
      'latin again',
      `select pg_encoding_to_char(encoding) as encoding from pg_database where datname = current_database()`,
    )
    expect(row).toEqual({ encoding: 'LATIN1' })
  })

  test('a database without an encoding keeps bytes that are no text', async () => {
    const options = `encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C' template template0`
    await makeDatabase(
      server,
      'bytes',
      `create table t (v text); insert into t values (convert_from('\\xfffe80', 'SQL_ASCII'))`,
      options,
    )
    const { source, backup } = await backUp(configOf(server, 'bytes'))
    await restoreTo(configOf(server, 'bytes'), 'bytes again', source)
    expect(backup.streams.get('rows of public.t')?.bytes).toEqual(Buffer.from([0xff, 0xfe, 0x80, 0x0a]))
    const rows = await server.sql('bytes again', `select encode(convert_to(v, 'SQL_ASCII'), 'hex') as v from t`)
    expect(rows).toEqual([{ v: 'fffe80' }])
  })

  test('hostile names of everything are names: they come back, and run nothing', async () => {
    const objects = HOSTILE_NAMES.map((name) => {
      const quoted = ident(name)
      return `
        create schema ${quoted}; create role ${quoted}; create type ${quoted}.${quoted} as enum (${literal(name)});
        create sequence ${quoted}.${ident(`${name} s`)}; select nextval(${literal(`${quoted}.${ident(`${name} s`)}`)});
        create table ${quoted}.${ident(`${name} t`)} (${quoted} ${quoted}.${quoted} default ${literal(name)}, id serial primary key,
          constraint ${ident(`${name} c`)} check (${quoted} is not null));
        insert into ${quoted}.${ident(`${name} t`)} default values; create index ${ident(`${name} i`)} on ${quoted}.${ident(`${name} t`)} (${quoted});
        create function ${quoted}.${quoted}(${quoted} integer) returns integer language sql as 'select 1';
        alter table ${quoted}.${ident(`${name} t`)} owner to ${quoted}; grant usage on schema ${quoted} to ${quoted};
        comment on table ${quoted}.${ident(`${name} t`)} is ${literal(`${name}\n\\! touch holdfast-pwned`)};`
    })
    const name = HOSTILE_NAMES[9] ?? ''
    await makeDatabase(server, name, objects.join('\n'))
    const backup = await roundTrip(name)
    expect([...backup.streams.keys()].filter((one) => one.startsWith('rows of'))).toHaveLength(HOSTILE_NAMES.length)
    for (const one of HOSTILE_NAMES) {
      const [row] = await server.sql(`${name} again`, `select ${ident(one)}::text as v from ${ident(one)}.${ident(`${one} t`)}`)
      expect(row).toEqual({ v: one })
    }
    for (const folder of [process.cwd(), '/', '/tmp', server.dataFolder]) {
      await expect(stat(path.join(folder, 'holdfast-pwned'))).rejects.toThrow('ENOENT')
    }
  })

  test('a locale of another provider comes back', async () => {
    await makeDatabase(
      server,
      'builtin',
      `create table t (v text); insert into t values ('a'), ('B')`,
      `locale_provider builtin builtin_locale 'C.UTF-8' template template0`,
    )
    await roundTrip('builtin')
    const properties = (name: string) =>
      server.sql(
        name,
        `select datlocprovider, datlocale, daticurules, datcollate from pg_database where datname = current_database()`,
      )
    expect(await properties('builtin again')).toEqual(await properties('builtin'))
  })

  test('of a configuration table of an extension, the rows of the user are in the backup', async () => {
    await writeExtension(extensions.path)
    await makeDatabase(
      server,
      'extended',
      `create extension holdfast_test; insert into settings values ('mine', false); select nextval('counter')`,
    )
    const { source, fingerprint } = await backUp(configOf(server, 'extended'))
    expect(fingerprint.counts).toMatchObject({ 'public.settings': 1, 'public.defaults': 2 })
    expect(Object.keys(fingerprint.counts)).not.toContain('public.internals')
    await restoreTo(configOf(server, 'extended'), 'extended again', source)
    expect(await server.sql('extended again', 'select * from settings order by name')).toEqual([
      { name: 'built in', builtin: true },
      { name: 'mine', builtin: false },
    ])
  })

  test('a condition of an extension is SQL of the server: no tool sees it that would run its commands', async () => {
    const pwned = path.join(extensions.path, 'pwned')
    await writeExtension(extensions.path, `where name <> E'x' /* \n\\! touch ${pwned}\n */`)
    await makeDatabase(
      server,
      'hostile',
      `create extension holdfast_test version '2'; insert into settings values ('mine', false)`,
    )
    const { fingerprint } = await backUp(configOf(server, 'hostile'))
    expect(fingerprint.counts['public.settings']).toBe(2)
    await expect(stat(pwned)).rejects.toThrow('ENOENT')
  })

  test('a table that someone waits to empty is whole, and the backup does not wait for him, who waits for it', async () => {
    await makeDatabase(
      server,
      'truncated',
      `create table t as select generate_series(1, 5000) as i; create table u as select 1 as i`,
    )
    const { sink } = memorySink()
    let truncating: Promise<unknown> | undefined
    const watched: BackupSink = {
      tree: sink.tree,
      stream: async (meta, bytes) => {
        truncating ??= server.sql('truncated', 'truncate t')
        truncating.catch(() => undefined)
        await waitFor('the lock to be asked for', () => waiting(server, 'truncated'))
        return sink.stream(meta, bytes)
      },
    }
    const fingerprint = await withRun((run) => postgresEngine.backup(backupPlan(configOf(server, 'truncated')), watched, run))
    expect(fingerprint.counts).toMatchObject({ 'public.t': 5000, 'public.u': 1 })
    await truncating
    expect(await server.sql('truncated', 'select count(*)::int as n from t')).toEqual([{ n: 0 }])
  })

  test('a table that was emptied before the locks were there makes the backup wait, not lie', async () => {
    await makeDatabase(server, 'emptied', `create table t as select generate_series(1, 5000) as i`)
    const other = server.connect('emptied')
    await other.unsafe('begin; truncate t; insert into t values (1), (2)').simple()
    const taken = backUp(configOf(server, 'emptied'))
    await waitFor('the backup to wait', () => waiting(server, 'emptied'))
    await other.unsafe('commit').simple()
    await other.end()
    expect((await taken).fingerprint.counts['public.t']).toBe(2)
  })

  test('names that end lines in other alphabets, and the widest table, come back', async () => {
    const separator = 'line\u2028separator\u2029'
    const columns = Array.from({ length: 1600 }, (_, index) => `c${index} integer default ${index}`).join(', ')
    await makeDatabase(
      server,
      'wide',
      `create schema ${ident(separator)}; create sequence ${ident(separator)}.${ident(separator)} start 5;
       select nextval('${ident(separator)}.${ident(separator)}'); create table ${ident(separator)}.t (a integer);
       insert into ${ident(separator)}.t values (1); create table wide (${columns}); insert into wide default values`,
    )
    await roundTrip('wide')
    const { source } = await backUp(configOf(server, 'wide'))
    await restoreTo(configOf(server, 'wide'), 'part', source, { parts: [separator] })
    expect(await server.sql('part', `select last_value::text from ${ident(separator)}.${ident(separator)}`)).toEqual([
      { last_value: '5' },
    ])
  })
})

async function waiting(server: PostgresServer, database: string): Promise<boolean> {
  const [row] = await server.sql<{ n: number }>(database, `select count(*)::int as n from pg_locks where not granted`)
  return (row?.n ?? 0) > 0
}

/** Version 1 with configuration tables, as PostgreSQL 18, 36.17.3 has it; version 2 with this condition. */
async function writeExtension(folder: string, condition = ''): Promise<void> {
  const target = path.join(folder, 'extension')
  await mkdir(target, { recursive: true })
  const script = (where: string) => `
    create table settings (name text, builtin boolean); insert into settings values ('built in', true);
    create table defaults (v integer); insert into defaults values (1), (2);
    create table internals (v integer); insert into internals values (1);
    create sequence counter;
    select pg_extension_config_dump('settings', $c$${where}$c$); select pg_extension_config_dump('defaults', '');
    select pg_extension_config_dump('counter', '');`
  await writeFile(path.join(target, 'holdfast_test.control'), `default_version = '1'\nrelocatable = true\n`)
  await writeFile(path.join(target, 'holdfast_test--1.sql'), script('where not builtin'))
  await writeFile(path.join(target, 'holdfast_test--2.sql'), script(condition))
}
