import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { BackupSink } from '../../../shared/artifacts.ts'
import { waitFor } from '../../../test/harness/wait.ts'
import { memorySink } from '../testing/memory.ts'
import { backupPlan, withRun } from '../testing/plans.ts'
import { sqliteConfig } from './config.ts'
import { sqliteEngine } from './sqlite.ts'

const ROUNDS = 12
let folder: string
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'writers-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

function make(file: string, mode: string): void {
  const db = new DatabaseSync(file)
  db.exec(`pragma journal_mode = ${mode}; begin`)
  db.exec('create table accounts (id integer primary key, balance, pad); create index balances on accounts (balance)')
  db.exec('create table history (id integer primary key, what); create table meta (transactions); insert into meta values (0)')
  for (let i = 0; i < 5000; i++) db.exec('insert into accounts (balance, pad) values (100, randomblob(200))')
  db.exec('commit')
  db.close()
}

test.each(['wal', 'delete'])('a backup under writes is one moment of the database (%s)', async (mode) => {
  const file = path.join(folder, 'busy.db')
  make(file, mode)
  const config = sqliteConfig.parse({ path: file })
  await withRun(async (run) => {
    const program = fileURLToPath(new URL('./writer.fixture.ts', import.meta.url))
    const writer = run.tools.start(process.execPath, ['--no-warnings', program, { value: file }], { signal: run.signal })
    await new Promise((resolve) => writer.stdout.once('data', resolve))
    let last = 0
    for (let round = 0; round < ROUNDS; round++) {
      await waitFor('the writer to go on', () => transactionsOf(file) > last)
      last = await oneRound(config, `${file}-${round}.copy`, last)
    }
    await writer.kill()
  })
})

function transactionsOf(file: string): number {
  const db = new DatabaseSync(file, { readOnly: true, timeout: 10_000 })
  try {
    return Number(db.prepare('select transactions from meta').get()?.transactions)
  } finally {
    db.close()
  }
}

async function oneRound(config: ReturnType<typeof sqliteConfig.parse>, copy: string, last: number): Promise<number> {
  const { sink, backup } = memorySink()
  const fingerprint = await withRun((run) => sqliteEngine.backup(backupPlan(config), slowed(sink), run))
  await writeFile(copy, backup.streams.get('database')?.bytes ?? '')
  const db = new DatabaseSync(copy)
  const one = (sql: string) => Number(Object.values(db.prepare(sql).get() ?? {})[0])
  expect(db.prepare('pragma integrity_check').all()).toEqual([{ integrity_check: 'ok' }])
  expect(one('select sum(balance) from accounts')).toBe(500_000)
  const transactions = one('select transactions from meta')
  expect(transactions).toBeGreaterThan(last)
  expect(one('select count(*) from history')).toBe(transactions)
  // counted in another process, while the pages were read
  expect(fingerprint.counts).toEqual({ accounts: 5000, history: transactions, meta: 1 })
  db.close()
  return transactions
}

/** Gives the writer time between two pieces. */
function slowed(sink: BackupSink): BackupSink {
  return {
    ...sink,
    stream: (meta, bytes) =>
      sink.stream(
        meta,
        (async function* () {
          for await (const piece of bytes as AsyncIterable<Buffer>) {
            yield piece
            for (let turn = 0; turn < 500; turn++) await new Promise((resolve) => setImmediate(resolve))
          }
        })(),
      ),
  }
}
