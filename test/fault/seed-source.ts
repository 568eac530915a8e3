import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { PostgresServer } from '../harness/postgres.ts'
import { randomBytes, treeHash, writeTree } from './bench.ts'
import type { Schedule, SourceKind } from './schedule.ts'
import type { HostName } from './world.ts'

/** What one seed backs up: one to five megabytes of its own, which no other seed sees. */
export interface SeedSource {
  readonly name: string
  /** Its entry in agent.yaml of a host whose data lies in `data`. */
  entry(data: string): Record<string, unknown>
  /** Other content, as the seed draws it. */
  change(): Promise<void>
  /** Of the content of the source as it stands. */
  hash(): Promise<string>
  /** Of what was restored under that name on a host with that data; null where nothing is. */
  hashOfCopy(data: string, name: string): Promise<string | null>
  /** One place of the other host. */
  readonly twoNames: TwoNames
  /** With every copy. */
  remove(): Promise<void>
}

/** Two requests for a restore that lead to one place, of which the control plane does not know that they do. */
export interface TwoNames {
  readonly names: readonly [Record<string, unknown>, Record<string, unknown>]
  /** Who restores by the first name. */
  readonly host: HostName
  /** Who keeps them apart: the agent of the one host, or the database server that two hosts share. */
  readonly guard: 'agent' | 'server'
  /** For `hashOfCopy`, with the data of db2. */
  readonly copy: string
}

export async function makeSource(
  { seed, source }: Schedule,
  random: () => number,
  on: { data: string; elsewhere: string; server: PostgresServer | null },
): Promise<SeedSource> {
  if (source === 'app' && on.server) return makeApp(seed, random, on.server)
  return makeFile(source === 'app' ? 'notes' : source, seed, random, on)
}

/** A folder of each seed in the data of a host, so that copies beside a source are the seed's too. */
const folderOf = (data: string, seed: number): string => path.join(data, `seed-${seed}`)

async function makeFile(
  kind: Exclude<SourceKind, 'app'>,
  seed: number,
  random: () => number,
  { data, elsewhere }: { data: string; elsewhere: string },
): Promise<SeedSource> {
  const engine = kind === 'tree' ? 'files' : 'sqlite'
  const name = kind === 'tree' ? 'tree' : 'notes.db'
  const at = (of: string) => path.join(folderOf(of, seed), name)
  const hashOf = (place: string) => (kind === 'tree' ? treeHash(place) : hashOfNotes(place))
  const write = async (to: string, share: number) => {
    if (kind === 'tree') await writeTree(to, random, 2_000_000 * share, Math.ceil(8 * share))
    else writeNotes(to, random, Math.ceil(700 * share))
  }
  // the other host has one of the same name, beside which it restores
  for (const [of, share] of [
    [data, 1],
    [elsewhere, 0.05],
  ] as const) {
    await mkdir(folderOf(of, seed), { recursive: true })
    await write(at(of), share)
  }
  const own = `${kind}-${seed}`
  return {
    name: own,
    twoNames: {
      // the source that is there, and a new name beside it that is the source's
      names: [
        { target: `db2/${own}`, overwrite_existing: true },
        { target: `db2/${name}`, via: `db2/${own}`, overwrite_existing: true },
      ],
      host: 'db2',
      guard: 'agent',
      copy: name,
    },
    entry: (of) => ({ engine, path: at(of) }),
    change: () => write(at(data), 0.25),
    hash: () => hashOf(at(data)),
    hashOfCopy: async (of, copy) => {
      const place = path.join(folderOf(of, seed), copy)
      return existsSync(place) ? hashOf(place) : null
    },
    remove: async () => {
      for (const of of [data, elsewhere]) await rm(folderOf(of, seed), { recursive: true, force: true })
    },
  }
}

/** A database of the one server that all seeds and both hosts share. */
async function makeApp(seed: number, random: () => number, server: PostgresServer): Promise<SeedSource> {
  const name = `app_${seed}`
  const names = [name]
  await server.sql('postgres', `create database ${name} template app`)
  const both = `both_${seed}`
  return {
    name: `app-${seed}`,
    twoNames: {
      names: [
        { target: `db1/${both}`, via: `db1/app-${seed}` },
        { target: `db2/${both}`, via: `db2/app-${seed}` },
      ],
      host: 'db1',
      guard: 'server',
      copy: both,
    },
    entry: () => ({ engine: 'postgres', url: server.url(name), password: server.password, tools: [server.tools] }),
    change: async () => {
      const from = Math.floor(random() * 1500)
      await server.sql(
        name,
        `update items set body = ${bodyOf(Math.floor(random() * 2 ** 31))} where id between ${from} and ${from + 300}`,
      )
    },
    hash: () => hashOfApp(server, name),
    hashOfCopy: async (_data, copy) => {
      const [there] = await server.sql('postgres', `select from pg_database where datname = '${copy}'`)
      if (!there) return null
      names.push(copy)
      return hashOfApp(server, copy)
    },
    remove: async () => {
      for (const one of names) await server.sql('postgres', `drop database if exists "${one}" with (force)`)
    },
  }
}

/** About three megabytes. */
export async function makeTemplate(server: PostgresServer): Promise<void> {
  await server.sql('postgres', 'create database app')
  await server.sql(
    'app',
    `create table items (id int primary key generated always as identity, body text not null);
     insert into items (body) select ${bodyOf(1)} from generate_series(1, 1800) id;
     create index on items (md5(body));
     create view long as select id from items where length(body) > 1000`,
  )
}

const bodyOf = (salt: number): string =>
  `(select string_agg(md5(concat(id, ' ', k, ' ${salt}')), '') from generate_series(1, 50) k)`

async function hashOfApp(server: PostgresServer, database: string): Promise<string> {
  const [row] = await server.sql<{ hash: string }>(
    database,
    `select md5(string_agg(id || body, ' ' order by id)) || (select count(*) from long) || (select last_value from items_id_seq)
       || (select string_agg(indexdef, ' ' order by indexname) from pg_indexes where tablename = 'items')
       || pg_get_viewdef('long'::regclass) as hash from items`,
  )
  return row?.hash ?? ''
}

function writeNotes(file: string, random: () => number, count: number): void {
  const db = new DatabaseSync(file)
  db.exec('pragma journal_mode = wal; create table if not exists notes (id integer primary key, body blob)')
  const insert = db.prepare('insert or replace into notes values (?, ?)')
  db.exec('begin')
  for (let n = 0; n < count; n++) insert.run(Math.floor(random() * 2000), randomBytes(random, 2000))
  db.exec('commit')
  db.close()
}

async function hashOfNotes(place: string): Promise<string> {
  const db = new DatabaseSync(place, { readOnly: true })
  try {
    const hash = createHash('sha256')
    for (const row of db.prepare('select id, body from notes order by id').iterate()) {
      hash.update(`${row.id} `).update(row.body as Uint8Array)
    }
    return hash.digest('hex')
  } finally {
    db.close()
  }
}
