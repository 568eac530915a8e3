import { closeSync, copyFileSync, existsSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Fingerprint } from '../../../shared/results.ts'
import { memorySink } from '../testing/memory.ts'
import { backupPlan, children, failureOf, withRun } from '../testing/plans.ts'
import { type SqliteConfig, sqliteConfig } from './config.ts'
import { sqliteEngine } from './sqlite.ts'

let folder: string
let file: string
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'snapshot-'))
  file = path.join(folder, 'source.db')
})
afterEach(() => rm(folder, { recursive: true, force: true }))

interface Taken {
  readonly db: DatabaseSync
  readonly fingerprint: Fingerprint
  readonly findings: string[]
}

/** A backup as a database file again; `onBytes` runs in the middle of the reading. */
async function take(onBytes?: (total: number) => void, more: Partial<SqliteConfig> = {}): Promise<Taken> {
  const { sink, backup } = memorySink(onBytes ? { onBytes } : {})
  const config = sqliteConfig.parse({ path: file, busy_timeout_ms: 2000, ...more })
  const { fingerprint, findings } = await withRun(async (run) => ({
    fingerprint: await sqliteEngine.backup(backupPlan(config), sink, run),
    findings: run.findings.map(({ code }) => code),
  }))
  const copy = path.join(folder, `copy-${process.hrtime.bigint()}.db`)
  writeFileSync(copy, backup.streams.get('database')?.bytes ?? '')
  return { db: new DatabaseSync(copy), fingerprint, findings }
}

/** A database of about 4 MiB; every row knows the transaction that wrote it last. */
function source(mode: string): DatabaseSync {
  const db = new DatabaseSync(file, { timeout: 0 })
  db.exec(
    `pragma journal_mode = ${mode}; pragma wal_autocheckpoint = 0; begin; create table t (id integer primary key, version, pad)`,
  )
  const insert = db.prepare('insert into t (version, pad) values (1, zeroblob(1000))')
  for (let i = 0; i < 4000; i++) insert.run()
  db.exec('commit')
  return db
}

const versions = (db: DatabaseSync) =>
  db
    .prepare('select version, count(*) as n from t group by version')
    .all()
    .map((row) => ({ ...row }))
const rewrite = (db: DatabaseSync, version: number) =>
  db.exec(`update t set version = ${version}; insert into t (version) values (${version})`)
const once = (work: () => void) => {
  let done = false
  return () => {
    if (!done) work()
    done = true
  }
}

test('WAL: commits that are only in the log are in the snapshot, later ones are not, and writers do not wait', async () => {
  const db = source('wal')
  db.exec('pragma wal_checkpoint(truncate)')
  rewrite(db, 2)
  const { db: copy, fingerprint } = await take(
    once(() => {
      rewrite(db, 3)
      db.exec('pragma wal_checkpoint(passive)')
    }),
  )
  expect(versions(copy)).toEqual([{ version: 2, n: 4001 }])
  expect(versions(db)).toEqual([{ version: 3, n: 4002 }])
  expect(fingerprint.counts).toEqual({ t: 4001 })
  expect(copy.prepare('pragma integrity_check').all()).toEqual([{ integrity_check: 'ok' }])
})

test('WAL: a log that is begun anew while it is read does not get into the snapshot', async () => {
  const db = source('wal')
  rewrite(db, 2)
  // all of it is in the database: the next writer begins the log anew, over the frames of the snapshot
  const checkpoint = db.prepare('pragma wal_checkpoint(passive)').get()
  expect(checkpoint?.checkpointed).toBe(checkpoint?.log)
  const log = Number(checkpoint?.log)
  const { db: copy } = await take(once(() => rewrite(db, 3)))
  expect(Number(db.prepare('pragma wal_checkpoint(passive)').get()?.log)).toBeLessThan(2 * log)
  expect(versions(copy)).toEqual([{ version: 2, n: 4001 }])
  expect(copy.prepare('pragma integrity_check').all()).toEqual([{ integrity_check: 'ok' }])
})

test('a database that nobody has open is read without leaving files beside it', async () => {
  for (const mode of ['wal', 'delete']) {
    source(mode).close()
    expect(versions((await take()).db)).toEqual([{ version: 1, n: 4000 }])
    expect(['-wal', '-shm', '-journal'].filter((suffix) => existsSync(file + suffix))).toEqual([])
    await rm(file)
  }
})

test('without WAL: a copy is made first, so that writers wait for that alone', async () => {
  const db = source('delete')
  const { db: copy, findings } = await take(once(() => rewrite(db, 2)))
  expect(versions(db)).toEqual([{ version: 2, n: 4001 }])
  expect(versions(copy)).toEqual([{ version: 1, n: 4000 }])
  expect(findings).toEqual([])
})

test('without WAL and too large to be copied: writers wait, and a finding says so', async () => {
  const db = source('delete')
  const attempt = once(() => expect(() => rewrite(db, 2)).toThrow('locked'))
  const { db: copy, findings } = await take(attempt, { copy_limit_mib: 0 })
  expect(versions(copy)).toEqual([{ version: 1, n: 4000 }])
  expect(findings).toEqual(['writers_wait'])
  rewrite(db, 2)
})

test('a snapshot whose holder was killed is no backup', async () => {
  source('wal')
  const before = children()
  const kill = once(() => {
    for (const pid of children()) if (!before.includes(pid)) process.kill(pid, 'SIGKILL')
  })
  expect(await failureOf(take(kill))).toMatchObject({ code: 'tool_failed' })
})

test('a half-written transaction of a killed writer is rolled back, as any reader would', async () => {
  const db = source('delete')
  db.exec('pragma cache_size = 1; pragma cache_spill = 1; begin; update t set version = 9')
  const killed = path.join(folder, 'killed.db')
  copyFileSync(file, killed)
  copyFileSync(`${file}-journal`, `${killed}-journal`)
  expect(existsSync(`${killed}-journal`)).toBe(true)
  file = killed
  expect(versions((await take()).db)).toEqual([{ version: 1, n: 4000 }])
})

test('what is no SQLite database is refused, and so is one that is locked for good', async () => {
  writeFileSync(file, 'x'.repeat(5000))
  expect(await failureOf(take())).toMatchObject({ code: 'source_corrupt', message: `${file} is not a SQLite database` })
  await rm(file)
  const db = source('delete')
  db.exec('begin exclusive')
  expect(await failureOf(take(undefined, { busy_timeout_ms: 100 }))).toMatchObject({ code: 'source_unreachable', retry: true })
})

test('an empty file is an empty database', async () => {
  writeFileSync(file, '')
  const { db, fingerprint } = await take()
  expect(fingerprint.counts).toEqual({})
  expect(db.prepare('select * from sqlite_schema').all()).toEqual([])
})

test('a damaged database is backed up as it is, with an error among the findings', async () => {
  const db = source('delete')
  db.close()
  const bytes = Buffer.alloc(4096, 0xee)
  const fd = openSync(file, 'r+')
  writeSync(fd, bytes, 0, 4096, 4096 * 200)
  closeSync(fd)
  const { findings, fingerprint } = await take()
  expect(findings).toContain('db_integrity_check_failed')
  expect(fingerprint.facts.integrity).toBe('failed')
})

test('tables with names that JavaScript or a shell reads otherwise are counted like others', async () => {
  const db = new DatabaseSync(file)
  db.exec('create table constructor (x); insert into constructor values (1); create table toString (x); create table "a\nb" (x)')
  const { fingerprint } = await take()
  expect(Object.entries(fingerprint.counts)).toEqual([
    ['a\nb', 0],
    ['constructor', 1],
    ['toString', 0],
  ])
})
