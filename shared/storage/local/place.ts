import { link, mkdir, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { syncFolder } from '../../durable-file.ts'
import { HoldfastError } from '../../errors.ts'
import { randomBase32 } from '../../ids.ts'
import { systemCode } from './errors.ts'
import { makeFolders, TEMPORARY } from './paths.ts'
import { writeChecked } from './write-checked.ts'

export interface Placement {
  readonly size: number
  readonly sha256: Buffer
  readonly overwrite: boolean
  readonly signal: AbortSignal | undefined
  /** Called when all bytes are on the disk, before the object can be seen. Throws to leave it unseen. */
  beforeVisible?(): void
}

/**
 * Writes one object whole or not at all: to a name that no key has, checked while it is written, synced, then linked to
 * its own name. `link` never replaces, so of two puts one wins. Returns the file's mtime, or "exists".
 */
export async function place(root: string, key: string, body: AsyncIterable<Buffer>, to: Placement): Promise<bigint | 'exists'> {
  const folder = path.join(root, TEMPORARY)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const temporary = path.join(folder, randomBase32(26))
  try {
    const mtimeNs = await writeChecked(temporary, key, body, to)
    to.signal?.throwIfAborted()
    to.beforeVisible?.()
    return (await makeVisible(root, key, temporary, to.overwrite)) ? mtimeNs : 'exists'
  } finally {
    await rm(temporary, { force: true })
  }
}

/** False when another object has the name. A removal may take the folders away in between; they are made again. */
async function makeVisible(root: string, key: string, temporary: string, overwrite: boolean): Promise<boolean> {
  const file = path.join(root, ...key.split('/'))
  for (let attempt = 1; ; attempt++) {
    try {
      const folder = await makeFolders(root, key)
      await (overwrite ? rename(temporary, file) : link(temporary, file))
      await syncFolder(folder)
      return true
    } catch (error) {
      const code = systemCode(error)
      if (code === 'EEXIST') return false
      if (code === 'EISDIR' || code === 'ENOTDIR') throw clash(key, error)
      if (code === 'ENOTSUP' || code === 'EMLINK' || (code === 'EPERM' && !overwrite)) throw noLinks(code)
      if (code !== 'ENOENT' || attempt === 20) throw error
    }
  }
}

function clash(key: string, cause: unknown): HoldfastError {
  return new HoldfastError('object_conflict', `object ${key} has the name of a folder, or a folder of it that of an object`, {
    hint: 'A store on a disk cannot hold both. Remove what does not belong to a backup.',
    cause,
  })
}

function noLinks(code: string): HoldfastError {
  return new HoldfastError('target_refused', `the storage target's file system makes no hard links (${code})`, {
    hint: 'Without them an object could be replaced or seen half. Use ext4, XFS, btrfs, ZFS or APFS, or NFS version 4.',
  })
}
