import { createHash } from 'node:crypto'
import { giveBack } from '../give-back.ts'
import { spoiled } from './codec-threads.ts'
import type { Directory } from './directory.ts'
import { LIMITS, MIB, PACK_MAGIC, sha256, TAG_BYTES } from './format.ts'
import { type FinishedPack, PACK_HEADER, PACK_TRAILER, type PackOpener } from './pack.ts'
import { sumOf } from './sums.mjs'

/** A pack that is at hand from its first byte to its last. */

/** Opens every part of a pack and hashes every chunk. Gives its directory. */
export async function openWholePack(opener: PackOpener, bytes: Buffer): Promise<Directory> {
  const directory = openParts(opener, bytes)
  for (let n = 0; n < directory.blocks; n++) {
    const plain = await opener.block(directory, n, bytes.subarray(directory.offset(n), directory.end(n)))
    checkChunks(opener, directory, n, plain)
  }
  return directory
}

/**
 * Others have their turn between: the threads that compress would wait for what this thread gives them. Not more often, since what others do takes as long each time, and a pack that is not
 * sent when the next one is full has that one wait for its memory.
 */
const AT_ONCE = 4 * MIB

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

export async function hashPack(bytes: Buffer): Promise<Buffer> {
  const hash = createHash('sha256')
  for (let at = 0; at < bytes.length; at += AT_ONCE) {
    hash.update(bytes.subarray(at, at + AT_ONCE))
    await turn()
  }
  return hash.digest()
}

/**
 * Opens every part of a pack that was made here, with the reader's own code, and compares it with what was put into it. Blocks were decoded and
 * compared when they were packed (packing.mjs); here they have to be those very bytes. To be done after the pack was hashed for
 * the store: what changes later does not fit that hash. Others have their turn between.
 */
export async function provePack(opener: PackOpener, pack: FinishedPack): Promise<void> {
  let directory: Directory
  try {
    directory = openParts(opener, pack.bytes)
    if (!directory.bytes.equals(pack.directory)) throw opener.fail('its directory is another')
    let next = AT_ONCE
    for (let n = 0; n < directory.blocks; n++) {
      const { bytes } = opener.packed(directory, n, pack.bytes.subarray(directory.offset(n), directory.end(n)))
      if (sumOf(bytes) !== pack.sums[n]) throw opener.fail(`block ${n} is not what was put into it`)
      giveBack(bytes)
      if (directory.end(n) >= next) {
        next += AT_ONCE
        await turn()
      }
    }
  } catch (cause) {
    throw spoiled(`${opener.key} did not open again`, cause)
  }
}

/** Compares the name of each chunk of a block with its content. */
export function checkChunks(opener: PackOpener, directory: Directory, block: number, plain: Buffer): void {
  let at = 0
  for (let n = 0; n < directory.chunksOf(block); n++) {
    const end = at + directory.chunkLength(block, n)
    if (!sha256(plain.subarray(at, end)).equals(directory.chunkName(block, n))) {
      throw opener.fail(`chunk ${n} of block ${block} is not what its name says`)
    }
    at = end
  }
}

/** All but the blocks: that every byte belongs to one of its parts, and the parts fit together. */
function openParts(opener: PackOpener, bytes: Buffer): Directory {
  if (bytes.length < PACK_HEADER + TAG_BYTES + PACK_TRAILER || bytes.length > LIMITS.pack) throw opener.fail('it has a bad size')
  if (!bytes.subarray(0, PACK_HEADER).equals(PACK_MAGIC)) throw opener.fail('it is no pack')
  const trailerAt = bytes.length - PACK_TRAILER
  const { directoryLength, paddingLength, blocks, chunks } = opener.footer(bytes.subarray(trailerAt))
  const directoryAt = trailerAt - directoryLength
  if (directoryAt < PACK_HEADER) throw opener.fail('its directory does not fit')
  const directory = opener.directory(bytes.subarray(directoryAt, trailerAt), blocks, bytes.length)
  const blocksEnd = directory.offset(blocks)
  if (blocksEnd + paddingLength !== directoryAt || directory.chunks !== chunks) throw opener.fail('its parts do not fit together')
  if (paddingLength > 0) opener.padding(bytes.subarray(blocksEnd, directoryAt))
  return directory
}
