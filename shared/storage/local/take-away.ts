import { lstat, readdir, rm, rmdir, unlink } from 'node:fs/promises'
import path from 'node:path'
import type { Clock } from '../../clock.ts'
import { syncFolder } from '../../durable-file.ts'
import { forgetChecksum } from './checksums.ts'
import { notOurs, systemCode } from './errors.ts'
import { CHECKSUMS, locate, TEMPORARY } from './paths.ts'

/** Removes an object for good (the folder is synced), then folders that are empty now. Absent is not an error. */
export async function takeAway(root: string, key: string): Promise<void> {
  const file = await locate(root, key)
  const found = await lstat(file).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return null
    throw error
  })
  if (found && !found.isFile()) throw notOurs(key)
  if (found) {
    await rm(file, { force: true })
    await syncFolder(path.dirname(file)).catch((error: unknown) => {
      // another removal took the empty folder away: then the object is not in it either
      if (systemCode(error) !== 'ENOENT') throw error
    })
  }
  await forgetChecksum(root, key)
  await removeEmpty(root, path.dirname(file))
  await removeEmpty(path.join(root, CHECKSUMS), path.dirname(path.join(root, CHECKSUMS, key)))
}

/** Upwards from `folder`, never `top` itself. `rmdir` refuses a folder with anything in it, so a put meanwhile is safe. */
async function removeEmpty(top: string, folder: string): Promise<void> {
  for (let at = folder; at !== top && at.startsWith(top + path.sep); at = path.dirname(at)) {
    try {
      await rmdir(at)
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') return
    }
  }
}

/** Twice the life of any address is long over. */
const LEFTOVER_MS = 24 * 60 * 60 * 1000

/**
 * Removes what puts that died have left. By age, since another process may be writing just now; were its file taken all the
 * same (a clock set forward), that one put would fail and be tried again.
 */
export async function sweepLeftovers(root: string, clock: Clock): Promise<number> {
  const folder = path.join(root, TEMPORARY)
  let swept = 0
  for (const name of await readdir(folder).catch(() => [])) {
    const file = path.join(folder, name)
    const stat = await lstat(file).catch(() => null)
    if (!stat?.isFile() || clock.now().getTime() - stat.mtimeMs < LEFTOVER_MS) continue
    await unlink(file)
    swept++
  }
  return swept
}
