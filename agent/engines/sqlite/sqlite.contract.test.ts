import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe } from 'vitest'
import { engineContract } from '../contract.ts'
import type { Place } from '../engine.ts'
import { HOSTILE_NAMES } from '../testing/names.ts'
import { locate, type SqliteConfig, sqliteConfig } from './config.ts'
import { sqliteEngine } from './sqlite.ts'

const quote = (name: string) => `"${name.replaceAll('"', '""')}"`

function fill(file: string, mode: string): void {
  const db = new DatabaseSync(file)
  db.exec(`pragma journal_mode = ${mode}; pragma user_version = 7`)
  db.exec('begin')
  db.exec('create table people (id integer primary key, name text, photo blob); create index names on people (name)')
  db.exec('create table pairs (a, b, primary key (a, b)) without rowid; create virtual table notes using fts5(body)')
  for (const name of HOSTILE_NAMES) db.exec(`create table ${quote(name)} (x); insert into ${quote(name)} values (1), (2)`)
  const insert = db.prepare('insert into people (name, photo) values (?, randomblob(500))')
  for (let i = 0; i < 4000; i++) insert.run(`name ${i}`)
  db.exec("insert into notes values ('some text'); insert into pairs values (1, 2); commit")
  db.close()
}

/** Every row of every table, by way of SQLite itself. */
function contents(file: string): string {
  if (!existsSync(file)) return 'absent'
  const db = new DatabaseSync(file)
  try {
    const hash = createHash('sha256').update(JSON.stringify(db.prepare('pragma journal_mode').get()))
    const tables = db.prepare("select name, sql from sqlite_schema where type = 'table' order by name").all()
    for (const { name, sql } of tables) {
      hash.update(JSON.stringify([name, sql]))
      for (const row of db.prepare(`select * from ${quote(String(name))}`).iterate()) {
        for (const value of Object.values(row)) hash.update(value instanceof Uint8Array ? value : JSON.stringify(value))
      }
    }
    return `${hash.digest('hex')} ${JSON.stringify(db.prepare('pragma integrity_check').all())}`
  } finally {
    db.close()
  }
}

describe.each(['wal', 'delete'])('in journal mode %s', (mode) => {
  engineContract<SqliteConfig>({
    engine: sqliteEngine,
    async make() {
      const base = await mkdtemp(path.join(tmpdir(), 'sqlite-'))
      const source = path.join(base, 'source.db')
      fill(source, mode)
      const rawConfig = { path: source }
      const config = sqliteConfig.parse(rawConfig)
      const change = async (statement: string) => {
        const db = new DatabaseSync(source)
        db.exec(statement)
        db.close()
      }
      return {
        config,
        rawConfig,
        unreachable: sqliteConfig.parse({ path: path.join(base, 'absent.db') }),
        secrets: [],
        parts: null,
        namesArePaths: true,
        mutate: () =>
          change(
            "delete from people where id % 3 = 0; insert into pairs values (3, 4); update people set name = 'x' where id = 5",
          ),
        lose: () => change('delete from people where id = 2000'),
        state: async (place: Place<SqliteConfig>) => contents(locate(place)),
        holdsMoreThan: async () => false,
        places: async () => [...(await readdir(base)), ...(existsSync('/tmp/holdfast-escaped') ? ['escaped'] : [])].sort(),
        dispose: () => rm(base, { recursive: true, force: true }),
      }
    },
  })
})
