import { realpath, stat } from 'node:fs/promises'
import type { BackupSink } from '../../../shared/artifacts.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Fingerprint } from '../../../shared/results.ts'
import type { BackupPlan, Run } from '../engine.ts'
import type { SqliteConfig } from './config.ts'
import { fileError } from './errors.ts'
import type { Counted } from './messages.ts'
import { type Snapshot, takeSnapshot } from './snapshot.ts'

/** The one artifact of a backup: the database's pages, as a file that needs no log. */
export const DATABASE = 'database'
const PIECE_BYTES = 1024 * 1024
/** Measured as the unit that stores least after scattered changes; a multiple of every page size up to it. */
const CHUNK_BYTES = 8192

export async function backup(plan: BackupPlan<SqliteConfig>, sink: BackupSink, run: Run): Promise<Fingerprint> {
  run.signal.throwIfAborted()
  refuseParts(plan.parts)
  const { path } = plan.config
  try {
    const file = await realpath(path)
    const snapshot = await takeSnapshot(file, plan.config, run)
    try {
      return await write(file, snapshot, sink, run)
    } finally {
      await snapshot.close()
    }
  } catch (error) {
    run.signal.throwIfAborted()
    throw fileError(error, path)
  }
}

async function write(file: string, snapshot: Snapshot, sink: BackupSink, run: Run): Promise<Fingerprint> {
  const { pageSize, pages } = snapshot.pinned
  const { mode, uid, gid } = await stat(file)
  run.progress({ phase: 'reading', totalBytes: pages * pageSize })
  const meta = {
    name: DATABASE,
    chunking: { kind: 'fixed', bytes: Math.max(CHUNK_BYTES, pageSize) },
    facts: { mode: String(mode & 0o7777), uid: String(uid), gid: String(gid) },
  } as const
  // counting reads the same pages: at the same time, they come from the disk once
  const counting = snapshot.counted()
  const settled = counting.catch(() => undefined)
  try {
    await sink.stream(meta, readPages(snapshot, run.signal))
  } catch (error) {
    await snapshot.close()
    await settled
    throw error
  }
  const counted = await counting
  await snapshot.release()
  return judge(file, counted, run)
}

/** The snapshot's pages in pieces of 1 MiB, each valid until the next: from the database, and those in the log from there. */
export async function* readPages(snapshot: Snapshot, signal: AbortSignal): AsyncGenerator<Buffer> {
  const { pinned, database, wal } = snapshot
  const total = pinned.pages * pinned.pageSize
  const buffer = Buffer.allocUnsafeSlow(PIECE_BYTES)
  for (let offset = 0; offset < total; ) {
    signal.throwIfAborted()
    const piece = buffer.subarray(0, Math.min(PIECE_BYTES, total - offset))
    let got = 0
    while (got < piece.length) {
      const { bytesRead } = await database.read(piece, got, piece.length - got, offset + got)
      if (bytesRead === 0) break
      got += bytesRead
    }
    // a page at the end that was never written is one of zeros to SQLite too
    piece.fill(0, got)
    // the log was begun anew meanwhile: all is in the database now
    if (wal && !(await wal.overlay(piece, offset / pinned.pageSize + 1))) continue
    yield piece
    offset += piece.length
  }
}

export function judge(file: string, counted: Counted, run: Run): Fingerprint {
  for (const message of counted.problems) {
    run.finding({
      code: 'db_integrity_check_failed',
      severity: 'error',
      message: `${file}: ${message.slice(0, 1000)}`,
      hint: 'The database is damaged: keep the backups from before, and rebuild it with the recover command of sqlite3.',
    })
  }
  return fingerprintOf(counted)
}

export function fingerprintOf(counted: Counted): Fingerprint {
  return { counts: counted.counts, facts: { ...counted.facts, integrity: counted.problems.length === 0 ? 'ok' : 'failed' } }
}

export function refuseParts(parts: readonly string[]): void {
  if (parts.length === 0) return
  throw new HoldfastError('not_supported', 'a SQLite database can only be chosen as a whole', {
    hint: 'Leave the parts out, and take the tables that are needed out of the restored file.',
  })
}
