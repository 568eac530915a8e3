import type { Dirent } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import path from 'node:path'
import { isKey } from '../key.ts'
import type { ListedObject } from '../target.ts'
import { systemCode } from './errors.ts'

/**
 * Objects below a prefix in key order. That is the order of whole keys: a folder sorts as its name with "/", or "a-b" would
 * come after "a/b". What is no object (links, foreign names, the target's own folders) is passed by; what vanishes meanwhile too.
 */
export async function* walk(root: string, prefix: string, signal?: AbortSignal): AsyncGenerator<ListedObject> {
  signal?.throwIfAborted()
  const folder = path.join(root, ...prefix.split('/'))
  for (const { name, isFolder } of await entriesOf(folder)) {
    const key = prefix + name
    if (!isKey(key)) continue
    if (isFolder) {
      yield* walk(root, `${key}/`, signal)
      continue
    }
    signal?.throwIfAborted()
    const stat = await absentIsNull(lstat(path.join(folder, name)))
    if (stat?.isFile()) yield { key, size: stat.size, modified: stat.mtime }
  }
}

async function entriesOf(folder: string): Promise<Array<{ name: string; isFolder: boolean }>> {
  const entries: Dirent[] = (await absentIsNull(readdir(folder, { withFileTypes: true }))) ?? []
  const sortName = (entry: Dirent) => (entry.isDirectory() ? `${entry.name}/` : entry.name)
  return entries
    .filter((entry) => entry.isFile() || entry.isDirectory())
    .map((entry) => ({ name: entry.name, isFolder: entry.isDirectory(), sort: sortName(entry) }))
    .sort((a, b) => (a.sort < b.sort ? -1 : 1))
}

async function absentIsNull<T>(reading: Promise<T>): Promise<T | null> {
  try {
    return await reading
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ENOENT' || code === 'ENOTDIR') return null
    throw error
  }
}
