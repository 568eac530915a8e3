import { promisify } from 'node:util'
import { zstdDecompress } from 'node:zlib'
import { bounded, decode } from './packing.mjs'
import { isOneFrame } from './zstd-frame.mjs'

/** Decoding, with what was said about the length held against it. Callers compare hashes. */

const decompressAsync = promisify(zstdDecompress)

export const CODECS = ['stored', 'zstd'] as const
export type Codec = (typeof CODECS)[number]

export interface Packed {
  readonly codec: Codec
  readonly bytes: Buffer
}

type Fail = (what: string, cause?: unknown) => Error

/** The plaintext of exactly `length` bytes, or `fail`'s error. Decodes in another thread. */
export async function decompress(packed: Packed, length: number, fail: Fail): Promise<Buffer> {
  if (packed.codec === 'stored') return exact(packed.bytes, length, fail)
  if (!isOneFrame(packed.bytes)) throw fail('a block is not one zstd frame')
  let plain: Buffer
  try {
    plain = await decompressAsync(packed.bytes, bounded(length))
  } catch (cause) {
    throw fail('a block does not decode', cause)
  }
  return exact(plain, length, fail)
}

export function decompressNow(bytes: Buffer, length: number, fail: Fail): Buffer {
  if (!isOneFrame(bytes)) throw fail('it is not one zstd frame')
  let plain: Buffer
  try {
    plain = decode(bytes, length)
  } catch (cause) {
    throw fail('it does not decode', cause)
  }
  return exact(plain, length, fail)
}

function exact(plain: Buffer, length: number, fail: Fail): Buffer {
  if (plain.length !== length) throw fail(`a block decodes to ${plain.length} bytes where ${length} are said`)
  return plain
}
