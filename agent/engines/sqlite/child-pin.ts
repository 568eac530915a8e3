import { openSync, readSync } from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'
import type { Pinned } from './messages.ts'

/** Bytes of one of the two copies of the log's index header (walformat.html, 2.1). */
const HEADER_BYTES = 48
const TRIES = 5000

/**
 * Begins a read transaction and says what it sees. In WAL mode, that is the frames up to a number, which SQLite keeps to
 * itself: so the shared header that it takes it from is read before and after, until nobody has changed it in between.
 * (Every commit changes it: it counts them.)
 */
export function pin(db: DatabaseSync, path: string): Pinned {
  const see = () => db.prepare('select 1 from sqlite_schema limit 1').get()
  see()
  if (text(db, 'journal_mode') !== 'wal') {
    db.exec('begin')
    see()
    return { ...size(db), wal: null }
  }
  // never closed: that would drop the locks on it, and with them the snapshot
  const shared = openSync(`${path}-shm`, 'r')
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const before = readIndexHeader(shared)
    db.exec('begin')
    see()
    if (before && readIndexHeader(shared)?.equals(before)) return { ...size(db), wal: describe(before) }
    db.exec('rollback')
  }
  throw Object.assign(new Error('no moment without a commit was found'), { errcode: 5 })
}

function size(db: DatabaseSync): { pageSize: number; pages: number } {
  return { pageSize: Number(text(db, 'page_size')), pages: Number(text(db, 'page_count')) }
}

export function text(db: DatabaseSync, pragma: string): string {
  return String(Object.values(db.prepare(`pragma ${pragma}`).get() ?? {})[0])
}

/** Null while someone writes it: the copies differ. */
function readIndexHeader(fd: number): Buffer | null {
  const both = Buffer.alloc(2 * HEADER_BYTES)
  if (readSync(fd, both, 0, both.length, 0) < both.length) return null
  const first = both.subarray(0, HEADER_BYTES)
  return first.equals(both.subarray(HEADER_BYTES)) ? first : null
}

function describe(header: Buffer): { frames: number; salt: string } {
  // in the byte order of the machine, but for the salt, which is copied from the log as it is
  const frames = new Uint32Array(header.buffer.slice(header.byteOffset + 16, header.byteOffset + 20))[0] ?? 0
  return { frames, salt: header.toString('hex', 32, 40) }
}
