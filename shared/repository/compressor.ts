import { promisify } from 'node:util'
import { zstdDecompress } from 'node:zlib'
import { HoldfastError } from '../errors.ts'
import { bounded, compress, decode } from './packing.mjs'

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
  let plain: Buffer
  try {
    plain = await decompressAsync(packed.bytes, bounded(length))
  } catch (cause) {
    throw fail('a block does not decode', cause)
  }
  return exact(plain, length, fail)
}

export function decompressNow(bytes: Buffer, length: number, fail: Fail): Buffer {
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

/** A round trip at the start of a backup: a runtime whose zstd does not work is found before the source is touched. */
export function testCompressor(zstd = { compress, decode }): void {
  for (const length of [0, 1, 64, 100_000]) {
    const plain = Buffer.from(Array.from({ length }, (_, n) => (n * n) >> 3))
    if (!zstd.decode(zstd.compress(plain), length).equals(plain)) {
      throw new HoldfastError('internal', `zstd of Node ${process.versions.node} gives ${length} bytes back as others`, {
        hint: 'Install the version of Node that comes with this program.',
      })
    }
  }
}
