import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, rm } from 'node:fs/promises'
import path from 'node:path'
import { CHECKSUMS, locate } from './paths.ts'

/**
 * The SHA-256 of an object as it was when the target checked it on its way in, so that `head` need not read the object: what
 * S3 does. One small file each under `~sums`, which names the size and the time of the file it speaks of. Where that does not match,
 * or the note is lost or torn, the object is read instead; so notes are not synced, and a copied or restored store works.
 * Like S3's, it says nothing about a disk that decayed since: `verify` reads every byte for that.
 */
const NOTE = /^([0-9a-f]{64}) (\d{1,15}) (-?\d{1,25})\n$/

/** Longer than any note. */
const NOTE_BYTES = 256

const noteKey = (key: string): string => `${CHECKSUMS}/${key}`

export async function noteChecksum(root: string, key: string, sha256: Buffer, size: number, mtimeNs: bigint): Promise<void> {
  try {
    const file = await locate(root, noteKey(key))
    await mkdir(path.dirname(file), { recursive: true, mode: 0o700 })
    const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW, O_NONBLOCK } = constants
    const note = await open(file, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK, 0o600)
    try {
      await note.writeFile(`${sha256.toString('hex')} ${size} ${mtimeNs}\n`)
    } finally {
      await note.close()
    }
  } catch {
    // the object itself is stored and durable: a full disk here only makes `head` read it
    await forgetChecksum(root, key)
  }
}

export async function forgetChecksum(root: string, key: string): Promise<void> {
  const file = await locate(root, noteKey(key)).catch(() => null)
  // what cannot be removed still names another size or time than any later object of that key
  if (file) await rm(file, { force: true }).catch(() => undefined)
}

async function readNote(root: string, key: string): Promise<string> {
  try {
    const note = await open(await locate(root, noteKey(key)), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    try {
      const { buffer, bytesRead } = await note.read(Buffer.alloc(NOTE_BYTES), 0, NOTE_BYTES, 0)
      return buffer.toString('latin1', 0, bytesRead)
    } finally {
      await note.close()
    }
  } catch {
    // no note that can be read: the object is
    return ''
  }
}

/** The SHA-256 of an open object: from its note when that speaks of this very file, else by reading it. */
export async function checksumOf(root: string, key: string, object: FileHandle, signal?: AbortSignal): Promise<Buffer> {
  const stat = await object.stat({ bigint: true })
  const note = NOTE.exec(await readNote(root, key))
  if (note?.[1] && BigInt(note[2] ?? -1) === stat.size && BigInt(note[3] ?? 0) === stat.mtimeNs)
    return Buffer.from(note[1], 'hex')
  return hashOf(object, signal)
}

/** The SHA-256 of the bytes that lie on the disk now. */
export async function hashOf(object: FileHandle, signal?: AbortSignal): Promise<Buffer> {
  const hash = createHash('sha256')
  const buffer = Buffer.allocUnsafe(1024 * 1024)
  for (let position = 0; ; ) {
    signal?.throwIfAborted()
    const { bytesRead } = await object.read(buffer, 0, buffer.length, position)
    if (bytesRead === 0) return hash.digest()
    hash.update(buffer.subarray(0, bytesRead))
    position += bytesRead
  }
}
