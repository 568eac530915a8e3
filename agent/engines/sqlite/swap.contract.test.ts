import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, chown, copyFile, mkdtemp, readdir, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { BackupSource } from '../../../shared/artifacts.ts'
import { memorySink, memorySource } from '../testing/memory.ts'
import { backupPlan, failureOf, restorePlan, withRun } from '../testing/plans.ts'
import { sqliteConfig } from './config.ts'
import { sqliteEngine } from './sqlite.ts'

let folder: string
let file: string
let source: BackupSource
const isRoot = process.geteuid?.() === 0

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'swap-'))
  file = path.join(folder, 'app.db')
  make(1).close()
  await chmod(file, 0o640)
  const { sink, backup } = memorySink()
  const fingerprint = await withRun((run) => sqliteEngine.backup(backupPlan(config()), sink, run))
  source = memorySource(backup, fingerprint)
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const config = () => sqliteConfig.parse({ path: file, busy_timeout_ms: 200 })
const restore = (targetName: string | null, overwrite = false) =>
  withRun((run) => sqliteEngine.restore(restorePlan(config(), targetName, { overwrite }), source, run))

function make(version: number): DatabaseSync {
  const db = new DatabaseSync(file, { timeout: 200 })
  db.exec(`pragma journal_mode = wal; create table if not exists t (version); delete from t; insert into t values (${version})`)
  return db
}

function version(name = file): unknown {
  const db = new DatabaseSync(name)
  const row = db.prepare('select version from t').get()
  db.close()
  return row?.version
}

test('the log of a killed program is not played into the database that takes its place', async () => {
  const db = make(2)
  const saved = `${file}-saved`
  for (const suffix of ['', '-wal']) await copyFile(file + suffix, saved + suffix)
  db.close()
  for (const suffix of ['', '-wal']) await copyFile(saved + suffix, file + suffix)
  expect(existsSync(`${file}-wal`)).toBe(true)
  await restore(null, true)
  expect(version()).toBe(1)
  expect((await readdir(folder)).filter((name) => name.startsWith('app.db') && !name.includes('saved'))).toEqual(['app.db'])
})

test('a log without its database counts as something that exists', async () => {
  const stale = path.join(folder, 'new.db-wal')
  await writeFile(stale, 'stale')
  expect(await failureOf(restore('new.db'))).toMatchObject({ code: 'source_exists', message: `${stale} exists` })
  await restore('new.db', true)
  expect(version(path.join(folder, 'new.db'))).toBe(1)
  expect(existsSync(stale)).toBe(false)
})

test('a database that another program has open is not replaced', async () => {
  const db = make(2)
  db.exec('insert into t values (3)')
  expect(await failureOf(restore(null, true))).toMatchObject({ code: 'conflict', retry: true })
  expect(db.prepare('select count(*) as n from t').get()?.n).toBe(2)
  db.exec('pragma journal_mode = delete')
  // no lock is held without a transaction: told by the open file
  expect(await failureOf(restore(null, true))).toMatchObject({
    code: 'conflict',
    message: expect.stringContaining(`${process.pid}`),
  })
  db.close()
  await restore(null, true)
  expect(version()).toBe(1)
})

test('a damaged database is replaced all the same', async () => {
  await writeFile(file, 'not a database any more')
  await writeFile(`${file}-wal`, 'nor a log')
  await restore(null, true)
  expect(version()).toBe(1)
  expect((await readdir(folder)).sort()).toEqual(['app.db'])
})

test('owner and mode of what is replaced are kept; a new file gets those of the backup', async () => {
  await chmod(file, 0o604)
  if (isRoot) await chown(file, 1234, 5678)
  await restore(null, true)
  const { uid, gid, mode } = await stat(file)
  expect(mode & 0o7777).toBe(0o604)
  if (isRoot) expect([uid, gid]).toEqual([1234, 5678])
  await restore('new.db')
  expect((await stat(path.join(folder, 'new.db'))).mode & 0o7777).toBe(0o640)
})

test('the journal mode comes back with the database', async () => {
  await restore('new.db')
  const db = new DatabaseSync(path.join(folder, 'new.db'))
  expect(db.prepare('pragma journal_mode').get()?.journal_mode).toBe('wal')
  db.close()
})

test('a source that is named by way of a link is replaced where it is, and the link stays', async () => {
  const real = file
  file = path.join(folder, 'link.db')
  await symlink('app.db', file)
  make(2).close()
  await restore(null, true)
  expect(version(real)).toBe(1)
  expect(existsSync(file)).toBe(true)
})

test('a backup whose pages are damaged is not put in the place of anything', async () => {
  make(2).close()
  const whole = source
  source = {
    ...whole,
    async *openStream(name: string) {
      yield Buffer.concat(await Array.fromAsync(whole.openStream(name))).fill(0xee, 4096)
    },
  }
  expect(await failureOf(restore(null, true))).toMatchObject({ code: 'source_corrupt' })
  expect(version()).toBe(2)
  expect(await readdir(folder)).toEqual(['app.db'])
})

test('what a killed restore left is cleared away by the next one into the same place', async () => {
  let kept: string[] = []
  const whole = source
  source = {
    ...whole,
    async *openStream(name: string) {
      kept = (await readdir(folder)).filter((one) => one.startsWith('.holdfast-new-'))
      yield* whole.openStream(name)
    },
  }
  await restore('new.db')
  const leftover = path.join(folder, kept[0] ?? '')
  await writeFile(leftover, 'half')
  await rm(path.join(folder, 'new.db'))
  await restore('new.db')
  expect((await readdir(folder)).sort()).toEqual(['app.db', 'new.db'])
})

test('who may write to the folder cannot turn the restore onto another file: no owner or mode is given by name', async () => {
  const victim = path.join(folder, 'victim')
  await copyFile(file, victim)
  await chmod(victim, 0o600)
  const before = await stat(victim)
  const watched: BackupSource = {
    ...source,
    async *artifacts() {
      for await (const info of source.artifacts()) {
        yield { ...info, facts: { ...info.facts, mode: String(0o666), ...(isRoot ? { uid: '65534', gid: '65534' } : {}) } }
      }
    },
    async *openStream(name) {
      yield* source.openStream(name)
      const staged = (await readdir(folder)).find((one) => one.startsWith('.holdfast-new-')) ?? ''
      await rename(path.join(folder, staged), path.join(folder, 'aside'))
      await symlink(victim, path.join(folder, staged))
    },
  }
  const restoring = withRun((run) => sqliteEngine.restore(restorePlan(config(), 'other.db'), watched, run))
  expect(await failureOf(restoring)).toMatchObject({ code: 'conflict' })
  const after = await stat(victim)
  expect([after.uid, after.gid, after.mode]).toEqual([before.uid, before.gid, before.mode])
  expect((await readdir(folder)).sort()).toEqual(['app.db', 'aside', 'victim'])
})

test('what a killed test restore left is removed by the next one; what a living one looks at is not', async () => {
  const tag = createHash('sha256').update(path.join(folder, '.holdfast-test-0000000001')).digest('hex').slice(0, 12)
  await withRun(async (run) => {
    const living = await sqliteEngine.sandbox(config(), run)
    await sqliteEngine.restore(restorePlan(config(), living.place.targetName), source, run)
    for (const dead of ['.holdfast-test-0000000001', '.holdfast-test-0000000002'])
      new DatabaseSync(path.join(folder, `${dead}.lock`)).close()
    // killed before, and after, it had its name; one file that only looks like a lock
    for (const name of [`.holdfast-new-${tag}-0000000009`, '.holdfast-test-0000000002', '.holdfast-test-0000000002-wal'])
      await writeFile(path.join(folder, name), 'half')
    await writeFile(path.join(folder, '.holdfast-test-0000000003.lock'), 'x'.repeat(1000))
    const next = await sqliteEngine.sandbox(config(), run)
    const here = [living, next].map(({ place }) => place.targetName ?? '')
    const own = ['.holdfast-test-0000000003.lock', 'app.db']
    expect((await readdir(folder)).sort()).toEqual([...here.map((name) => `${name}.lock`), here[0], ...own].sort())
    for (const sandbox of [living, next]) await sandbox.dispose()
    expect((await readdir(folder)).sort()).toEqual(own)
  })
})
