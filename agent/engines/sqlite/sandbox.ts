import { readdir, realpath, rm } from 'node:fs/promises'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { randomBase32 } from '../../../shared/ids.ts'
import type { Sandbox } from '../engine.ts'
import { locate, SIDECARS, type SqliteConfig } from './config.ts'
import { fileError } from './errors.ts'
import { removeStaged } from './restore.ts'

const PREFIX = '.holdfast-test-'
const LOCK = '.lock'
const LOCK_NAME = /^\.holdfast-test-[0-9a-z]{10}\.lock$/

/**
 * A new name beside the source, and a locked file beside that: by the lock, which ends with its process, the next test restore there tells
 * what a killed one has left, which may be as large as the database.
 */
export async function openSandbox(config: SqliteConfig): Promise<Sandbox<SqliteConfig>> {
  const place = { config, targetName: `${PREFIX}${randomBase32(10)}`, restored: true }
  const made = locate(place)
  try {
    await removeLeftovers(await realpath(path.dirname(made)))
    const lock = tryLock(`${made}${LOCK}`)
    let disposed: Promise<void> | undefined
    return { place, dispose: () => (disposed ??= remove(made, lock)) }
  } catch (error) {
    throw fileError(error, made)
  }
}

async function remove(made: string, lock: DatabaseSync | null): Promise<void> {
  try {
    for (const suffix of ['', ...SIDECARS, LOCK]) await rm(made + suffix, { force: true })
  } catch (error) {
    throw fileError(error, made)
  } finally {
    lock?.close()
  }
}

async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!LOCK_NAME.test(name)) continue
    const lock = tryLock(path.join(folder, name))
    if (!lock) continue
    const left = path.join(folder, name.slice(0, -LOCK.length))
    await removeStaged(folder, left)
    await remove(left, lock)
  }
}

/** SQLite's own lock on an empty database, since Node has no other. Null when somebody has it, or it is no lock of ours. */
function tryLock(file: string): DatabaseSync | null {
  const db = new DatabaseSync(file, { timeout: 0 })
  try {
    // the lock alone: a journal beside it would be one more file to take away
    db.exec('pragma journal_mode = memory; begin exclusive')
    return db
  } catch (error) {
    db.close()
    const code = error instanceof Error && 'errcode' in error ? Number(error.errcode) & 0xff : 0
    if (code === BUSY || code === NOT_A_DATABASE) return null
    throw error
  }
}

const BUSY = 5
const NOT_A_DATABASE = 26
