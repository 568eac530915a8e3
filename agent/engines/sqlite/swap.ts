import { readdir, readlink, rename, rm, stat } from 'node:fs/promises'
import { syncFolder } from '../../../shared/durable-file.ts'
import { HoldfastError, isHoldfastError } from '../../../shared/errors.ts'
import type { Run } from '../engine.ts'
import { SIDECARS, type SqliteConfig } from './config.ts'
import { Helper } from './helper.ts'
import type { Target } from './target.ts'

/**
 * Puts the new file in the place of a database that is there. Its log has to go first: SQLite would play it into the new
 * one. So the old one is locked as a whole, with its log emptied into it, from before that until after the swap.
 */
export async function swap(staged: string, target: Target, config: SqliteConfig, run: Run): Promise<void> {
  const helper = target.current ? await lockOut(target, config, run) : null
  try {
    await refuseUsers(target, helper?.pid ?? null)
    run.signal.throwIfAborted()
    run.fenced()
    const moved: Array<{ name: string; to: string }> = []
    try {
      for (const suffix of SIDECARS) {
        const one = { name: target.path + suffix, to: `${staged}-old${suffix}` }
        if (await moveAway(one.name, one.to)) moved.push(one)
      }
      await rename(staged, target.path)
    } catch (error) {
      for (const { name, to } of moved) await rename(to, name)
      throw error
    }
    for (const { to } of moved) await rm(to, { force: true })
    await syncFolder(target.folder)
  } finally {
    await helper?.end()
  }
}

async function moveAway(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false
    throw error
  }
}

/** Null when SQLite cannot open what is there: a damaged database is often why one restores. */
async function lockOut(target: Target, config: SqliteConfig, run: Run): Promise<Helper | null> {
  const helper = new Helper(run, { task: 'lock', path: target.path, busyMs: config.busy_timeout_ms })
  try {
    await helper.locked()
    return helper
  } catch (error) {
    await helper.end()
    if (isHoldfastError(error, 'source_corrupt')) return null
    if (isHoldfastError(error, 'source_unreachable')) throw inUse(target, 'another program')
    throw error
  }
}

/**
 * A program without a lock at the moment would go on with the file that has lost its name, and its writes would be lost.
 * Open files are told by Linux alone, and of other users' processes to root alone.
 */
async function refuseUsers(target: Target, except: number | null): Promise<void> {
  const file = await stat(target.path, { bigint: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (!file || process.platform !== 'linux') return
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid) || Number(pid) === except) continue
    // gone, or not ours to look at
    const handles = await readdir(`/proc/${pid}/fd`).catch(() => [])
    for (const handle of handles) {
      const link = `/proc/${pid}/fd/${handle}`
      if ((await readlink(link).catch(() => '')) !== target.path) continue
      const open = await stat(link, { bigint: true }).catch(() => null)
      if (open?.ino === file.ino && open.dev === file.dev) throw inUse(target, `process ${pid}`)
    }
  }
}

function inUse(target: Target, who: string): HoldfastError {
  return new HoldfastError('conflict', `${target.path} is in use by ${who}`, {
    hint: 'Stop the program that uses the database, then start the restore again; nothing has been changed.',
    retry: true,
  })
}
