import { createHash } from 'node:crypto'
import { HoldfastError, isHoldfastError } from '../../errors.ts'
import { randomBase32 } from '../../ids.ts'
import type { StorageTarget } from '../target.ts'

/** Throws `target_refused` saying which promise the folder's file system does not keep. */
export async function probeLocal(target: StorageTarget, signal?: AbortSignal): Promise<void> {
  const key = `holdfast-probe/${randomBase32(16)}`
  const body = Buffer.from(`probe ${randomBase32(16)}`)
  const other = Buffer.from(body).reverse()
  const require = (kept: boolean, promise: string) => {
    if (kept) return
    throw new HoldfastError('target_refused', `storage target ${target.name} does not ${promise}`, {
      hint: 'Put the store on a local disk with ext4, XFS, btrfs, ZFS or APFS, or on NFS version 4.',
    })
  }
  try {
    await target.put(key, body, { signal })
    require(await refuses(target.put(key, other, { signal }), 'object_conflict'), 'keep an object from being replaced')
    const sha256 = createHash('sha256').update(body).digest()
    const wrong = target.put(`${key}-wrong`, other, { sha256, signal })
    require(await refuses(wrong, 'object_damaged'), 'refuse a body that is not what its checksum says')
    const part = await target.get(key, { offset: 2, length: 5, signal })
    require(part.equals(body.subarray(2, 7)), 'read a range back')
    const head = await target.head(key, signal)
    require(head?.size === body.length && sha256.equals(head.sha256 ?? Buffer.alloc(0)), 'keep size and checksum')
    const listed: string[] = []
    for await (const object of target.list('holdfast-probe/', signal)) listed.push(object.key)
    require(listed.includes(key), 'list what is there')
    await target.remove(key, signal)
    require((await target.head(key, signal)) === null, 'remove an object')
  } finally {
    await target.remove(key)
    await target.remove(`${key}-wrong`)
  }
}

async function refuses(put: Promise<void>, code: 'object_conflict' | 'object_damaged'): Promise<boolean> {
  try {
    await put
    return false
  } catch (error) {
    if (isHoldfastError(error, code)) return true
    throw error
  }
}
