import { createHash } from 'node:crypto'
import { mkdir, readdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { type SQL, sql } from 'drizzle-orm'
import { z } from 'zod'
import { writeDurably } from '../../shared/durable-file.ts'
import type { Catalog, Db } from './catalog.ts'
import { knownMigrations } from './migrate.ts'
import { rowsOf } from './sql.ts'

/**
 * What no manifest holds, kept in files beside the embedded catalog so that a damaged one can be rebuilt: one JSON-lines file per
 * table (of the audit trail one per 10,000 entries, since it only grows), and `index.json`, written last, which names them with
 * their hashes. A file that did not change is not written again. Secrets in it are hashed or sealed, as in the catalog.
 */

export interface SelfBackupTable {
  readonly table: string
  /** Left out: what manifests hold, and what is large. */
  readonly without?: string
  /** A column by whose value the rows are spread over files. */
  readonly by?: { readonly column: string; readonly rows: number }
}

/** In an order in which every row finds what it refers to. Not here: the ledger and manifests (in the buckets), logs, streams, nonces. */
export const SELF_BACKUP_TABLES: readonly SelfBackupTable[] = [
  { table: 'fleet' },
  { table: 'fleet_keys' },
  { table: 'agents' },
  { table: 'certificates' },
  { table: 'enrolment_tokens' },
  { table: 'sources' },
  { table: 'targets' },
  { table: 'policies' },
  { table: 'api_keys' },
  { table: 'jobs' },
  { table: 'job_attempts' },
  { table: 'backups', without: 'manifest' },
  { table: 'backup_leans' },
  { table: 'copies' },
  { table: 'verifications' },
  { table: 'occurrences' },
  { table: 'audit_head' },
  { table: 'audit_entries', by: { column: 'sequence', rows: 10_000 } },
]

const fileSchema = z.strictObject({
  table: z.string(),
  name: z.string().regex(/^[a-z_]+(-\d+)?-[0-9a-f]{16}\.jsonl$/),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  rows: z.number().int().nonnegative(),
  /** Changes whenever a row was added, changed or removed. */
  mark: z.string(),
})
export type SelfBackupFile = z.infer<typeof fileSchema>

export const selfBackupIndexSchema = z.strictObject({
  format: z.literal(1),
  /** Hashes of the migrations that made the schema. */
  migrations: z.array(z.string()),
  files: z.array(fileSchema),
})
export type SelfBackupIndex = z.infer<typeof selfBackupIndexSchema>

export const INDEX = 'index.json'

/** A file as it is to be: its text, where it has to be written. */
interface ReadPart {
  readonly file: SelfBackupFile
  readonly text: string | null
}

/**
 * Makes the self-backup in `folder` what the catalog is now, read in one snapshot. `last` is what the previous call returned: what
 * it names is neither read nor written again. After a power cut either the old or the new one is there, whole.
 */
export async function writeSelfBackup(catalog: Catalog, folder: string, last: SelfBackupIndex | null): Promise<SelfBackupIndex> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const parts = await catalog.transaction(async (tx) => {
    await tx.execute(sql`set transaction isolation level repeatable read read only`)
    const read: ReadPart[] = []
    for (const table of SELF_BACKUP_TABLES) read.push(...(await readTable(tx, table, last)))
    return read
  })
  // after the transaction: the embedded catalog has one session, which others wait for
  for (const { file, text } of parts) if (text !== null) await writeDurably(path.join(folder, file.name), text)
  const index: SelfBackupIndex = { format: 1, migrations: knownMigrations(), files: parts.map((part) => part.file) }
  if (last && JSON.stringify(last) === JSON.stringify(index)) return last
  await writeDurably(path.join(folder, INDEX), `${JSON.stringify(index)}\n`)
  await removeOthers(folder, index)
  return index
}

async function readTable(tx: Db, of: SelfBackupTable, last: SelfBackupIndex | null): Promise<ReadPart[]> {
  const part = of.by ? sql`(${sql.identifier(of.by.column)} / ${of.by.rows}::int)::int` : sql`0`
  // xmin is the transaction that wrote the row: without another sum of them no row was added, changed or removed, also where a
  // transaction with a lower number commits later
  const xmin = sql`xmin::text::bigint`
  const parts = await rowsOf<{ part: number; mark: string }>(
    tx,
    sql`select ${part} as part, count(*) || ' ' || max(${xmin}) || ' ' || sum(${xmin}) as mark from ${sql.identifier(of.table)} group by 1 order by 1`,
  )
  const read: ReadPart[] = []
  for (const { part: number, mark } of parts) {
    const stem = of.by ? `${of.table}-${number}` : of.table
    const known = last?.files.find((file) => file.name.startsWith(`${stem}-`) && file.table === of.table && file.mark === mark)
    read.push(known ? { file: known, text: null } : await readPart(tx, of, { stem, mark, where: sql`${part} = ${number}` }))
  }
  return read
}

async function readPart(tx: Db, of: SelfBackupTable, part: { stem: string; mark: string; where: SQL }): Promise<ReadPart> {
  // PostgreSQL writes and reads the rows itself: no type is translated on the way
  const row = of.without ? sql`to_jsonb(t) - ${of.without}::text` : sql`to_jsonb(t)`
  const rows = await rowsOf<{ line: string }>(
    tx,
    sql`select (${row})::text as line from ${sql.identifier(of.table)} t where ${part.where}`,
  )
  const text = rows.map(({ line }) => `${line}\n`).join('')
  const sha256 = createHash('sha256').update(text).digest('hex')
  const name = `${part.stem}-${sha256.slice(0, 16)}.jsonl`
  return { file: { table: of.table, name, sha256, rows: rows.length, mark: part.mark }, text }
}

/** After the index: what it does not name is of no use to anyone. */
async function removeOthers(folder: string, index: SelfBackupIndex): Promise<void> {
  const named = new Set([INDEX, ...index.files.map((file) => file.name)])
  for (const name of await readdir(folder)) if (!named.has(name)) await rm(path.join(folder, name), { force: true })
}
