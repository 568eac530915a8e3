import { type BigIntStats, constants } from 'node:fs'
import { copyFile, type FileHandle, open, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Run } from '../engine.ts'
import type { SqliteConfig } from './config.ts'
import { countFile, Helper } from './helper.ts'
import type { Counted, Pinned } from './messages.ts'
import { WalPages } from './wal.ts'

const MIB = 1024 * 1024

/** A database at one moment: its pages, and what was counted in exactly those. */
export interface Snapshot {
  readonly pinned: Pinned
  readonly database: FileHandle
  /** Pages that are in the log instead; null for a database that has none. */
  readonly wal: WalPages | null
  /** Asked once, at any time. */
  counted(): Promise<Counted>
  /** After the pages have been read. Throws when the snapshot did not hold until now. */
  release(): Promise<void>
  close(): Promise<void>
}

/** docs/decisions/0007-sqlite-snapshots.md says why it is done like this. */
export async function takeSnapshot(file: string, config: SqliteConfig, run: Run): Promise<Snapshot> {
  const opened: FileHandle[] = []
  const before = await stat(file, { bigint: true })
  const helper = new Helper(run, { task: 'pin', path: file, integrity: config.integrity_check, busyMs: config.busy_timeout_ms })
  const close = async () => {
    await helper.end()
    for (const handle of opened.splice(0)) await handle.close()
  }
  const openRaw = async (name: string) => {
    const handle = await open(name, 'r')
    opened.push(handle)
    return handle
  }
  try {
    const pinned = await helper.pinned()
    const database = await openRaw(file)
    await requireSame(file, before, database)
    const wal = pinned.wal?.frames ? await WalPages.open(await openRaw(`${file}-wal`), { ...pinned, wal: pinned.wal }) : null
    const live: Snapshot = { pinned, database, wal, counted: () => helper.count(), release: () => helper.release(), close }
    return pinned.wal ? live : await withoutLog(file, live, config, run)
  } catch (error) {
    await close()
    throw error
  }
}

/** While a reader holds a database without a log, nobody can write: copied first, unless it is too large for that. */
async function withoutLog(file: string, live: Snapshot, config: SqliteConfig, run: Run): Promise<Snapshot> {
  const size = live.pinned.pages * live.pinned.pageSize
  const copy = path.join(run.scratch, 'copy.sqlite')
  if (size > config.copy_limit_mib * MIB || !(await copied(file, copy))) {
    run.finding({
      code: 'writers_wait',
      severity: 'warning',
      message: `${file} is not in WAL mode: its writers wait until the backup has ended`,
      hint: 'Switch it to WAL mode (pragma journal_mode = wal), or raise copy_limit_mib and make room for the copy.',
    })
    return live
  }
  const database = await open(copy, 'r')
  await live.release()
  await live.close()
  const close = async () => {
    await database.close()
    await rm(copy, { force: true })
  }
  const counted = () => countFile(copy, config, run)
  return { pinned: live.pinned, database, wal: null, counted, release: async () => undefined, close }
}

/** A copy that shares its blocks where the file system can. False when there is no room. */
async function copied(file: string, copy: string): Promise<boolean> {
  try {
    await copyFile(file, copy, constants.COPYFILE_FICLONE)
    return true
  } catch (error) {
    await rm(copy, { force: true })
    if (error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT')) return false
    throw error
  }
}

/** What was opened raw has to be what the snapshot is of: some programs write a new file and rename it. */
async function requireSame(file: string, before: BigIntStats, database: FileHandle): Promise<void> {
  const [opened, after] = [await database.stat({ bigint: true }), await stat(file, { bigint: true })]
  if ([opened, after].every(({ dev, ino }) => dev === before.dev && ino === before.ino)) return
  throw new HoldfastError('source_changed', `${file} was replaced by another file`, { hint: 'Run the backup again.' })
}
