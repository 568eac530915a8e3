import { lstat, mkdir } from 'node:fs/promises'
import path from 'node:path'
import { syncFolder } from '../../durable-file.ts'
import { notOurs, systemCode } from './errors.ts'

/**
 * Folders of the target's own. "~" is in no key, so no object can lie there, and listings pass them by.
 * `~tmp` holds what is being written, `~sums` the checksums of what was.
 */
export const TEMPORARY = '~tmp'
export const CHECKSUMS = '~sums'

/**
 * The path of a key. Every folder on the way is looked at, since Node cannot open below a folder it holds: a link in
 * the store would lead reads and writes out of it. The last segment is left to the caller (O_NOFOLLOW, link, lstat).
 */
export async function locate(root: string, key: string): Promise<string> {
  const segments = key.split('/')
  let folder = root
  for (const segment of segments.slice(0, -1)) {
    folder = path.join(folder, segment)
    try {
      if (!(await lstat(folder)).isDirectory()) throw notOurs(path.relative(root, folder))
    } catch (error) {
      if (systemCode(error) === 'ENOENT') break
      throw error
    }
  }
  return path.join(root, ...segments)
}

/** Makes the folders of a key below the root (mode 0700), each made durable in its parent. Returns the innermost. */
export async function makeFolders(root: string, key: string): Promise<string> {
  let folder = root
  for (const segment of key.split('/').slice(0, -1)) {
    const parent = folder
    folder = path.join(parent, segment)
    try {
      await mkdir(folder, { mode: 0o700 })
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error
      if (!(await lstat(folder)).isDirectory()) throw notOurs(path.relative(root, folder))
    }
    // also where it was there: whoever made it may not have synced it yet, and our object must not be lost with it
    await syncFolder(parent)
  }
  return folder
}
