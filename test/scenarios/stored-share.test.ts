import { hash, randomBytes } from 'node:crypto'
import { appendFile, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { beforeAll, expect, it } from 'vitest'
import { openKnown } from '../../shared/repository/known.ts'
import type { BackupDetail } from '../../shared/results.ts'
import { type TestAgent, TestHoldfast } from '../harness/holdfast.ts'
import { type PostgresServer, standingPostgres } from '../harness/postgres.ts'
import { standing } from '../harness/standing.ts'

/** What each kind of backup reads, stores and leans on, with sources of over 100 MB: bytes are counted at the target. */

const MB = 1_000_000
const holdfast = standing('Holdfast', () => TestHoldfast.start())
const server = await standingPostgres(15)
const at = (...names: string[]) => path.join(holdfast.folder.path, 'db1', ...names)
let agent: TestAgent

interface Case {
  readonly source: string
  /** Changes about one MB. */
  change(): Promise<void>
}

const CASES: Case[] = [
  { source: 'tree', change: () => appendFile(at('tree', 'file 7'), randomBytes(MB)) },
  { source: 'file', change: async () => fillFile(1) },
  { source: 'app', change: () => fillDatabase(server, 10) },
]

beforeAll(async () => {
  await mkdir(at('tree'), { recursive: true })
  for (let n = 0; n < 110; n++) await writeFile(at('tree', `file ${n}`), randomBytes(MB))
  fillFile(110)
  await server?.sql('postgres', 'create database app')
  await server?.sql(
    'app',
    'create table blobs (id serial primary key, body bytea); alter table blobs alter body set storage external',
  )
  await fillDatabase(server, 1100)
  agent = await holdfast.addAgent('db1', {
    sources: {
      tree: { engine: 'files', path: at('tree') },
      file: { engine: 'sqlite', path: at('file.db') },
      ...(server && {
        app: {
          engine: 'postgres',
          url: server.url('app'),
          password: server.password,
          tools: [server.tools],
        },
      }),
    },
  })
})

function fillFile(megabytes: number): void {
  const db = new DatabaseSync(at('file.db'))
  db.exec('create table if not exists blobs (body blob)')
  for (let n = 0; n < megabytes; n++) db.exec(`insert into blobs values (randomblob(${MB}))`)
  db.close()
}

/** Each row 100 KB that do not compress. */
async function fillDatabase(on: PostgresServer | null, rows: number): Promise<void> {
  await on?.sql(
    'app',
    `insert into blobs (body) select string_agg(sha512(random()::text::bytea), '')
     from generate_series(1, ${rows}) r, generate_series(1, 1600) group by r`,
  )
}

/** Of all objects of one backup, as they lie there. */
async function bytesAtTarget(source: string, id: string): Promise<number> {
  const folder = path.join(holdfast.storeFolder, 'db1', source, id)
  let sum = 0
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) sum += (await stat(path.join(entry.parentPath, entry.name))).size
  }
  return sum
}

it.for(CASES)(
  'the second incremental of unchanged data stores under 1 % of the full, and a differential leans only on the full ($source)',
  async ({ source, change }, { skip }) => {
    if (source === 'app' && server === null) return skip('PostgreSQL cannot be had on this machine')
    const backUp = async (type: 'full' | 'incremental' | 'differential') => {
      const backup = await holdfast.operator.backUp(`db1/${source}`, type)
      return { ...backup, detail: backup.job.detail as BackupDetail, bytes: await bytesAtTarget(source, backup.id) }
    }
    const full = await backUp('full')
    expect(full).toMatchObject({ type: 'full', leans_on: [] })
    expect(full.bytes).toBeGreaterThan(100 * MB)
    expect(full.detail.read_bytes).toBeGreaterThan(100 * MB)

    await change()
    const first = await backUp('incremental')
    expect(first).toMatchObject({ type: 'incremental', leans_on: [full.id] })
    expect(first.bytes).toBeGreaterThan(0.9 * MB)
    expect(first.bytes).toBeLessThan(5 * MB)

    const second = await backUp('incremental')
    // the agent's own list of what is stored is usable, so that the next run reads no index back
    const manifestSha256 = hash('sha256', await readFile(at('..', 'store', 'db1', source, second.id, 'manifest.json')), 'buffer')
    const known = await openKnown(path.join(agent.home, 'known', source), { id: second.id, manifestSha256 })
    expect(known).not.toBeNull()
    await known?.close()
    expect(second.type).toBe('incremental')
    expect([...second.leans_on].sort()).toEqual([full.id, first.id].sort())
    expect(second.bytes - second.detail.resent_bytes).toBeLessThan(full.bytes / 100)
    expect(second.stored_bytes).toBe(second.detail.stored_bytes)
    expect(Math.abs((second.stored_bytes ?? 0) - second.bytes)).toBeLessThan(100_000)
    expect(second.detail).toMatchObject(
      source === 'tree' ? { read_bytes: 0 } : { read_bytes: expect.toSatisfy((bytes: number) => bytes > 100 * MB) },
    )
    expect(second.detail.chunks_skipped).toBeGreaterThan(0.9 * second.detail.chunks)

    const differential = await backUp('differential')
    expect(differential).toMatchObject({ type: 'differential', leans_on: [full.id] })
    // what the first incremental has stored is stored again: nothing but the full is leaned on
    expect(differential.bytes).toBeGreaterThan(0.9 * MB)
    expect(differential.bytes).toBeLessThan(5 * MB)
  },
)
