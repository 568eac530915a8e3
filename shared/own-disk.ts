import { readlinkSync } from 'node:fs'
import path from 'node:path'
import { HoldfastError } from './errors.ts'

/** Primary codes of SQLite (rescode.html): locks of ours are SQLite's. */
const [SQLITE_READONLY, SQLITE_IOERR, SQLITE_FULL, SQLITE_CANTOPEN] = [8, 10, 13, 14]
const FULL = new Set<unknown>(['ENOSPC', 'EDQUOT', SQLITE_FULL])
const FAILED = new Set<unknown>([
  'EIO',
  'EROFS',
  'ENXIO',
  'ENODEV',
  'EBADMSG',
  'EUCLEAN',
  SQLITE_READONLY,
  SQLITE_IOERR,
  SQLITE_CANTOPEN,
])

/**
 * What a disk says under files of our own work, as an error of ours: full, or failing. Null for everything else. `where` is its folder, in
 * words.
 */
export function diskError(error: unknown, where: string): HoldfastError | null {
  if (error instanceof HoldfastError) return null
  const { code, errcode } = (error ?? {}) as { code?: unknown; errcode?: unknown }
  const said = typeof errcode === 'number' ? errcode & 0xff : code
  if (FULL.has(said)) {
    return new HoldfastError('disk_full', `no room is left on the disk of ${where}`, {
      hint: "Make room on that disk, or move the agent's home; the job is tried again by itself.",
      cause: error,
    })
  }
  if (!FAILED.has(said)) return null
  const what = error instanceof Error ? error.message : String(said)
  return new HoldfastError('disk_failed', `the disk of ${where} fails (${what})`, {
    hint: "Look at the kernel log and at that disk, or move the agent's home; the job is tried again by itself.",
    cause: error,
  })
}

/**
 * Does what reads or writes a file of the agent's own, which is open as `fd`, beside those of an engine. The error is one of ours before an engine
 * sees it, which would take it for its source's, and blame that.
 */
export function onOwnDisk<T>(fd: number, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw diskError(error, `the agent's folder ${folderOf(fd)}`) ?? error
  }
}

/** As the kernel knows it: who writes has the file alone. */
function folderOf(fd: number): string {
  try {
    return path.dirname(readlinkSync(`/proc/self/fd/${fd}`))
  } catch {
    // no Linux, or no /proc
    return 'for its work'
  }
}
