import { hash } from 'node:crypto'
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { sumOf } from './sums.mjs'
import { isOneFrame } from './zstd-frame.mjs'

// What is done to the bytes of a block, by the threads of codec-threads.ts and beside them, on the way in and on the way out. JavaScript, with its types in packing.d.mts: to take
// the types out of a file costs each thread 20 MB and 50 ms.
//
// zstd by Node's own library, one whole block at a time and one thread for each. ZSTD_c_nbWorkers is never set: with it Node loses data without an
// error (nodejs/node#59899 is related). Length and content are compared after decoding, since Node has accepted truncated frames.

/** In the words of zstd.h. `windowLog`: how far back a match may lie. `hashLog` and `chainLog`: entries, powers of two, of the tables in which matches are looked for. */
const settings = ({ level = 3, windowLog, hashLog, chainLog, strategy, minMatch }) => ({
  [constants.ZSTD_c_compressionLevel]: level,
  [constants.ZSTD_c_hashLog]: hashLog,
  ...(windowLog && { [constants.ZSTD_c_windowLog]: windowLog }),
  ...(chainLog && { [constants.ZSTD_c_chainLog]: chainLog }),
  ...(strategy && { [constants.ZSTD_c_strategy]: strategy }),
  ...(minMatch && { [constants.ZSTD_c_minMatch]: minMatch }),
})

/**
 * The whole block is searched, with tables half as large as zstd takes for it, which stay in a processor's second cache: a tenth less time, and stored
 * are 0.1 % less of dumps, and up to 1 % more of programs.
 */
export const WIDE = settings({ hashLog: 16, chainLog: 15 })

/** What lies near is searched, with tables that stay in a processor's first cache and beside it. */
export const NARROW = settings({ windowLog: 18, hashLog: 14, chainLog: 12 })

/** With one table, and for longer matches. */
export const FAST = settings({ windowLog: 18, hashLog: 15, strategy: constants.ZSTD_fast, minMatch: 6 })

/** For what is little of all that was read: 3 % less of a database's pages than WIDE, in nearly twice its time. */
export const DEEP = settings({ level: 5, hashLog: 17, chainLog: 16 })

/** 8 MiB: a hostile frame must not make the decoder ask for gigabytes. */
const WINDOW_LOG_MAX = 23
/** Blocks that shrink by less than this are stored as they are. */
const WORTH = 0.97
/** Shorter ones never shrink. */
const SHORT = 64
/** Smaller buffers share their memory with others (Node's pool). */
const FREED_FROM = 256 * 1024
const NAME_BYTES = 32

export function compress(plain, params = WIDE) {
  // what ZSTD_compressBound says it may need at most: with that much room zstd works without a buffer of its own
  const chunkSize = plain.length + Math.ceil(plain.length / 256) + 512
  return zstdCompressSync(plain, { params, chunkSize })
}

/** For a frame that has to decode to `length` bytes. */
export const bounded = (length) => ({
  // one byte more than allowed, so that a longer frame is told from one that ends exactly there
  maxOutputLength: length + 1,
  // in one piece: joining pieces costs more than decoding
  chunkSize: Math.max(64, length + 1),
  params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX },
})

export function decode(packed, length) {
  if (!isOneFrame(packed)) throw new Error('it is not one zstd frame')
  return zstdDecompressSync(packed, bounded(length))
}

export function free(bytes) {
  if (bytes.buffer instanceof ArrayBuffer && bytes.buffer.byteLength >= FREED_FROM) bytes.buffer.transfer(0)
}

export function openPacked({ packed, codec, ends }) {
  const length = ends.at(-1) ?? 0
  const plain = codec === 'zstd' ? decode(packed, length) : packed
  if (plain.length !== length) throw new Error(`a block decodes to ${plain.length} bytes where ${length} are said`)
  const names = Buffer.allocUnsafeSlow(ends.length * NAME_BYTES)
  let at = 0
  for (let n = 0; n < ends.length; n++) {
    hash('sha256', plain.subarray(at, ends[n]), 'buffer').copy(names, n * NAME_BYTES)
    at = ends[n]
  }
  if (plain !== packed) free(packed)
  return { plain, names }
}

const ZSTD = { compress, decode }

export function packChecked({ buffer, length, sum, effort }, zstd = ZSTD) {
  // bytes that are stored as they are go on under the sum that they came with
  const asItIs = { buffer, codec: 'stored', length, sum }
  if (effort === 'none' || length < SHORT) return asItIs
  const plain = buffer.subarray(0, length)
  const packed = effort === 'deep' ? zstd.compress(plain, DEEP) : zstd.compress(plain)
  if (packed.length >= length * WORTH) {
    free(packed)
    return asItIs
  }
  // before it is decoded: what changes afterwards does not fit
  const result = { buffer, codec: 'zstd', length: packed.length, sum: sumOf(packed) }
  const decoded = zstd.decode(packed, length)
  // of what was named, not of what lies there now
  if (sumOf(decoded) !== sum) {
    const changed = decoded.equals(plain)
    throw new Error(changed ? 'the plaintext of a block has changed in memory' : 'a block does not decode to what was compressed')
  }
  free(decoded)
  packed.copy(buffer)
  free(packed)
  return result
}
