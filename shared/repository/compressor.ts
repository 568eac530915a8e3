import { promisify } from 'node:util'
import { constants, zstdCompress, zstdCompressSync, zstdDecompress, zstdDecompressSync } from 'node:zlib'

/**
 * zstd by Node's own library, in libuv's thread pool, one whole block at a time. ZSTD_c_nbWorkers is never set: with it Node
 * loses data without an error (nodejs/node#59899 is related). Callers compare length and hashes after decoding, since Node has
 * accepted truncated frames.
 */

const compressAsync = promisify(zstdCompress)
const decompressAsync = promisify(zstdDecompress)

const LEVEL = 3
/** 8 MiB: a hostile frame must not make the decoder ask for gigabytes. */
const WINDOW_LOG_MAX = 23
/** Blocks that shrink by less than this are stored as they are. */
const WORTH = 0.97

export const CODECS = ['stored', 'zstd'] as const
export type Codec = (typeof CODECS)[number]

export interface Packed {
  readonly codec: Codec
  readonly bytes: Buffer
}

const params = { [constants.ZSTD_c_compressionLevel]: LEVEL }

export async function compress(plain: Buffer, compressible: boolean): Promise<Packed> {
  if (!compressible || plain.length < 64) return { codec: 'stored', bytes: plain }
  const bytes = await compressAsync(plain, { params, chunkSize: Math.max(64, plain.length) })
  return bytes.length < plain.length * WORTH ? { codec: 'zstd', bytes } : { codec: 'stored', bytes: plain }
}

const bounded = (length: number) => ({
  // one byte more than allowed, so that a longer frame is told from one that ends exactly there
  maxOutputLength: length + 1,
  // in one piece: joining pieces costs more than decoding
  chunkSize: Math.max(64, length + 1),
  params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX },
})

/** The plaintext of exactly `length` bytes, or `fail`'s error. */
export async function decompress(
  packed: Packed,
  length: number,
  fail: (what: string, cause?: unknown) => Error,
): Promise<Buffer> {
  if (packed.codec === 'stored') return exact(packed.bytes, length, fail)
  let plain: Buffer
  try {
    plain = await decompressAsync(packed.bytes, bounded(length))
  } catch (cause) {
    throw fail('a block does not decode', cause)
  }
  return exact(plain, length, fail)
}

function exact(plain: Buffer, length: number, fail: (what: string) => Error): Buffer {
  if (plain.length !== length) throw fail(`a block decodes to ${plain.length} bytes where ${length} are said`)
  return plain
}

export const compressNow = (plain: Buffer): Buffer => zstdCompressSync(plain, { params })

export function decompressNow(bytes: Buffer, length: number, fail: (what: string, cause?: unknown) => Error): Buffer {
  let plain: Buffer
  try {
    plain = zstdDecompressSync(bytes, bounded(length))
  } catch (cause) {
    throw fail('it does not decode', cause)
  }
  return exact(plain, length, fail)
}
