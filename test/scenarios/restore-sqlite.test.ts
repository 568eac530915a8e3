import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { BackupDetail } from '../../shared/results.ts'
import { type StartedProcess, startProcess } from '../harness/processes.ts'
import { type StoreKind, standingOnTwoStores } from '../harness/two-stores.ts'
import { waitFor } from '../harness/wait.ts'

/** A SQLite file that a program never stops writing to, backed up by one host and restored by another one under another name. */

const WRITER = fileURLToPath(new URL('../../agent/engines/sqlite/writer.fixture.ts', import.meta.url))
const ACCOUNTS = 5000
/** Rows that the writer leaves alone. */
const ARCHIVED = 3000
const stores = await standingOnTwoStores()
const { holdfast } = stores
let busy: string
let elsewhere: string
let writer: StartedProcess

beforeAll(async () => {
  busy = path.join(holdfast.folder.path, 'db1', 'busy.db')
  elsewhere = path.join(holdfast.folder.path, 'db2')
  await mkdir(path.dirname(busy))
  await mkdir(elsewhere)
  makeAccounts(busy)
  new DatabaseSync(path.join(elsewhere, 'own.db')).exec('create table own (id)')
  const source = { engine: 'sqlite', path: busy }
  await holdfast.addAgent('db1', { sources: { 'busy-local': source, 'busy-s3': source } })
  await holdfast.addAgent('db2', {
    restores_from: ['*'],
    sources: { own: { engine: 'sqlite', path: path.join(elsewhere, 'own.db') } },
  })
  writer = await startProcess(process.execPath, ['--no-warnings', WRITER, busy], {
    ready: (started) => started.output().includes('writing'),
  })
})
afterAll(async () => {
  await writer?.stop()
})

/** Money moves between accounts, so the sum stays; each transaction adds one row to the history, and counts itself. */
function makeAccounts(file: string): void {
  const db = new DatabaseSync(file)
  db.exec(`pragma journal_mode = wal; begin;
    create table accounts (id integer primary key, balance, pad); create index balances on accounts (balance);
    create table archive (body blob);
    create table history (id integer primary key, what); create table meta (transactions); insert into meta values (0)`)
  const insert = db.prepare('insert into accounts (balance, pad) values (100, randomblob(200))')
  for (let n = 0; n < ACCOUNTS; n++) insert.run()
  const keep = db.prepare('insert into archive values (randomblob(3000))')
  for (let n = 0; n < ARCHIVED; n++) keep.run()
  db.exec('commit')
  db.close()
}

function stateOf(file: string) {
  const db = new DatabaseSync(file, { readOnly: true, timeout: 10_000 })
  try {
    // one statement, so one moment also while the writer is at work
    return db
      .prepare(
        `select (select transactions from meta) as transactions, (select count(*) from history) as history,
                (select count(*) from accounts) as accounts, (select sum(balance) from accounts) as sum`,
      )
      .get() as { transactions: number; history: number; accounts: number; sum: number }
  } finally {
    db.close()
  }
}

function integrityOf(file: string): unknown {
  const db = new DatabaseSync(file, { readOnly: true })
  try {
    return db.prepare('pragma integrity_check').all()
  } finally {
    db.close()
  }
}

describe.each<StoreKind>(['local', 's3'])('a SQLite file under writes, on a %s target', (kind) => {
  it.skipIf(kind === 's3' && stores.s3 === null)(
    'comes back on another host under another name, full and incremental each as one moment of it',
    async () => {
      const full = await aMoment(kind, 'full')
      const next = await aMoment(kind, 'incremental')
      expect(full).toMatchObject({ type: 'full', leans_on: [], valid: true })
      expect(next).toMatchObject({ type: 'incremental', leans_on: [full.id], valid: true })
      expect((next.job.detail as BackupDetail).chunks_skipped).toBeGreaterThan(0)
      expect(next.stored_bytes).toBeLessThan((full.stored_bytes ?? 0) / 2)
      for (const backup of [full, next]) {
        const name = `${kind}-${backup.type}.db`
        expect(await holdfast.operator.restore(backup.id, { target: `db2/${name}` })).toMatchObject({
          agent: 'db2',
          detail: { checked: true },
        })
        const copy = path.join(elsewhere, name)
        expect(integrityOf(copy)).toEqual([{ integrity_check: 'ok' }])
        const state = stateOf(copy)
        expect(state).toEqual({ ...state, history: state.transactions, accounts: ACCOUNTS, sum: ACCOUNTS * 100 })
        expect(state.transactions).toBeGreaterThanOrEqual(backup.before)
        expect(state.transactions).toBeLessThanOrEqual(backup.after)
        expect(backup.total_count).toBe(ACCOUNTS + ARCHIVED + state.transactions + 1)
      }
    },
  )
})

/** A backup made now, and how many transactions there were before it and after it: the writer went on meanwhile. */
async function aMoment(kind: StoreKind, type: 'full' | 'incremental') {
  const before = stateOf(busy).transactions
  const backup = await holdfast.operator.backUp(`db1/busy-${kind}`, type)
  const after = stateOf(busy).transactions
  await waitFor('the writer to write on', () => stateOf(busy).transactions > after)
  expect(after).toBeGreaterThan(before)
  return { ...backup, before, after }
}
