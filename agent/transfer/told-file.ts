import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import path from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../../shared/errors.ts'
import { readJson } from '../../shared/json.ts'
import type { ObjectFile } from '../../shared/storage/local/object-file.ts'
import { OpenObject } from '../../shared/storage/local/open-object.ts'

const DECIMAL = z.string().regex(/^\d{1,20}$/)
const OBJECT_FILE = z.strictObject({
  path: z.string().max(4096),
  device: DECIMAL,
  inode: DECIMAL,
})

/** Throws `target_refused` for what is none, and for any path that does not end in the key: who answers cannot lead to other files by their names. */
export function parseObjectFile(text: string, key: string): ObjectFile {
  const read = readJson(text, OBJECT_FILE)
  if (read.success && isBelow(read.data.path, key)) return read.data
  throw refused(key, 'the answer does not say where it lies')
}

/**
 * Opens it to be read. Throws where it is not that same file (a container may have another folder at that path), is a link, no plain file, or not of this process's user; and the
 * system's error where it is not there.
 */
export async function openObjectFile(key: string, { path: at, device, inode }: ObjectFile): Promise<OpenObject> {
  // non-blocking: opening a named pipe that someone placed there would wait for ever
  const file = await open(at, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const found = await file.stat({ bigint: true })
    const same = found.dev === BigInt(device) && found.ino === BigInt(inode)
    if (!found.isFile() || !same) throw refused(key, 'another file lies there')
    if (found.uid !== BigInt(process.geteuid?.() ?? -1)) throw refused(key, 'its file is another user’s')
    return new OpenObject(key, file, Number(found.size))
  } catch (error) {
    await file.close()
    throw error
  }
}

const isBelow = (at: string, key: string): boolean => path.resolve(at) === at && at.endsWith(`/${key}`)

function refused(key: string, why: string): HoldfastError {
  return new HoldfastError('target_refused', `the file of object ${key} is not read here: ${why}`, {
    hint: 'It is asked of the control plane instead.',
  })
}
