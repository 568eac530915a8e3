import { closeSync, existsSync, openSync, readSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'

const READONLY = 8
const CANTOPEN = 14
const NOT_A_DATABASE = 26
const MAGIC = Buffer.from('SQLite format 3\0')

/**
 * Opens for reading wherever that works. Not where it doesn't: a database in WAL mode that nobody has open needs its log
 * made (and taken away again at the end, which only a writer does); one whose last writer was killed needs its journal
 * rolled back, which any reader does that may write.
 */
export function openDatabase(path: string, write: boolean, busyMs: number): DatabaseSync {
  const header = readHeader(path)
  const walAlone = header?.[18] === 2 && !existsSync(`${path}-wal`)
  if (write || walAlone) return prepare(new DatabaseSync(path, { timeout: busyMs }))
  try {
    return look(prepare(new DatabaseSync(path, { timeout: busyMs, readOnly: true })))
  } catch (error) {
    const code = error instanceof Error && 'errcode' in error ? Number(error.errcode) & 0xff : 0
    if (code !== READONLY && code !== CANTOPEN) throw error
    return prepare(new DatabaseSync(path, { timeout: busyMs }))
  }
}

/** The schema is untrusted: nothing in it may call what a program has added, and no page is believed unseen. */
function prepare(db: DatabaseSync): DatabaseSync {
  try {
    db.exec('pragma trusted_schema = off; pragma cell_size_check = on; pragma mmap_size = 0')
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

/** The first access to the file: here it shows whether reading is enough. */
function look(db: DatabaseSync): DatabaseSync {
  try {
    db.prepare('select 1 from sqlite_schema limit 1').get()
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

/** The first 100 bytes; null for an empty file, which is an empty database. Throws what SQLite says of other files. */
export function readHeader(path: string): Buffer | null {
  const fd = openSync(path, 'r')
  try {
    const header = Buffer.alloc(100)
    const length = readSync(fd, header, 0, 100, 0)
    if (length === 0) return null
    if (length === 100 && header.subarray(0, 16).equals(MAGIC)) return header
  } finally {
    closeSync(fd)
  }
  throw Object.assign(new Error('file is not a database'), { errcode: NOT_A_DATABASE })
}
