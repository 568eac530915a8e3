import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { sql } from 'drizzle-orm'
import { HoldfastError } from '../../shared/errors.ts'
import type { Db } from './catalog.ts'
import { knownMigrations } from './migrate.ts'
import { INDEX, SELF_BACKUP_TABLES, type SelfBackupFile, type SelfBackupIndex, selfBackupIndexSchema } from './self-backup.ts'
import { rowsOf } from './sql.ts'

const BATCH = 500

/** The index of a self-backup, or null where there is none. Throws `catalog_damaged` for one that cannot be read. */
export async function readSelfBackupIndex(folder: string): Promise<SelfBackupIndex | null> {
  const text = await readFile(path.join(folder, INDEX), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (text === null) return null
  try {
    return selfBackupIndexSchema.parse(JSON.parse(text))
  } catch (error) {
    throw new HoldfastError('catalog_damaged', `the self-backup's index in ${folder} cannot be read`, { cause: error })
  }
}

/**
 * Fills a new, empty catalog from a self-backup, all or nothing; returns false where there is none. Manifests are read
 * afterwards (adopt.ts) and win over what it says of backups; `settleRestored` comes last. Throws `conflict` for a catalog that
 * is in use, `catalog_newer` for a self-backup of a newer program, `catalog_damaged` for a file that is not as written.
 */
export async function restoreFromSelfBackup(db: Db, folder: string): Promise<boolean> {
  const index = await readSelfBackupIndex(folder)
  if (!index) return false
  const known = knownMigrations()
  if (!index.migrations.every((hash, number) => known[number] === hash)) {
    throw new HoldfastError('catalog_newer', `the self-backup in ${folder} was made by a program with another schema`, {
      hint: 'Start a program of the version that made it, or a newer one.',
    })
  }
  return await db.transaction(async (tx) => {
    await requireEmpty(tx)
    for (const { table } of SELF_BACKUP_TABLES) {
      for (const file of index.files.filter((one) => one.table === table)) await insertFile(tx, folder, file)
    }
    return true
  })
}

async function requireEmpty(tx: Db): Promise<void> {
  const [row] = await rowsOf<{ used: boolean }>(
    tx,
    sql`select exists (select 1 from agents) or exists (select 1 from fleet) or exists (select 1 from backups) as used`,
  )
  if (!row?.used) return
  throw new HoldfastError('conflict', 'the catalog that is to be filled from the self-backup is not empty', {
    hint: 'Move the catalog folder aside and start with --rebuild-catalog again.',
  })
}

async function insertFile(tx: Db, folder: string, file: SelfBackupFile): Promise<void> {
  const bytes = await readFile(path.join(folder, file.name)).catch((error: unknown) => {
    throw damaged(file, error)
  })
  if (createHash('sha256').update(bytes).digest('hex') !== file.sha256) throw damaged(file, undefined)
  const lines = bytes.toString('utf8').split('\n').filter(Boolean)
  if (lines.length !== file.rows) throw damaged(file, undefined)
  // only columns that the rows have: others take their defaults, as a migration would have given them
  const columns = Object.keys(JSON.parse(lines[0] ?? '{}') as object).map((name) => sql.identifier(name))
  for (let from = 0; from < lines.length; from += BATCH) {
    const rows = `[${lines.slice(from, from + BATCH).join(',')}]`
    const table = sql.identifier(file.table)
    const list = sql.join(columns, sql`, `)
    await tx.execute(
      sql`insert into ${table} (${list}) select ${list} from jsonb_populate_recordset(null::${table}, ${rows}::text::jsonb)`,
    )
  }
}

function damaged(file: SelfBackupFile, cause: unknown): HoldfastError {
  return new HoldfastError('catalog_damaged', `file ${file.name} of the self-backup is not as it was written`, {
    hint: 'Rebuild without the self-backup: move it aside; policies, keys and the audit trail then begin anew.',
    cause,
  })
}

/** How much may have happened in the minute that the self-backup lacks: numbers that fence have to be beyond all that was given out. */
const BEYOND = 1000

/**
 * Ends what the rebuilt catalog cannot know the end of. A restore that writes stays lost until its agent or an operator says that
 * it is over; everything else unfinished has failed, and so has a running backup of which no manifest was found. Attempts and
 * epochs jump, so that none is given out a second time.
 */
export async function settleRestored(db: Db, now: Date): Promise<void> {
  const at = sql`${now.toISOString()}::timestamptz`
  const error = sql`error_code = 'job_lost', error_message = 'the catalog was rebuilt while the job was under way', error_hint = null, lease_until = null`
  await db.transaction(async (tx) => {
    await tx.execute(sql`update agents set session_epoch = session_epoch + ${BEYOND}`)
    await tx.execute(
      sql`update jobs set state = 'lost', attempt = attempt + ${BEYOND}, max_attempts = max_attempts + ${BEYOND}, ${error} where finished_at is null and writes_place is not null and attempt > 0`,
    )
    await tx.execute(
      sql`update jobs set state = 'failed', finished_at = ${at}, ${error} where finished_at is null and state <> 'lost'`,
    )
    await tx.execute(
      sql`update jobs set state = 'succeeded', error_code = null, error_message = null where kind = 'backup' and state = 'failed' and finished_at = ${at} and exists (select 1 from backups where backups.id = jobs.backup_id and backups.status = 'good')`,
    )
    await tx.execute(
      sql`delete from backup_leans using backups where backups.id = backup_leans.backup_id and backups.status = 'running'`,
    )
    await tx.execute(sql`update backups set status = 'failed', finished_at = ${at} where status = 'running'`)
  })
}
