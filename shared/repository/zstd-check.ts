import { createCipheriv } from 'node:crypto'
import { HoldfastError } from '../errors.ts'
import { decompress, decompressNow } from './compressor.ts'
import { LIMITS } from './format.ts'
import { compress, DEEP, FAST, free, NARROW, type Settings, WIDE } from './packing.mjs'

/** Whether the zstd that this process runs with gives back what it was given, and refuses what it has to refuse. */

/** In the forms in which the data path uses it: what compresses, and the two ways back. */
export interface ZstdInUse {
  compress(plain: Buffer, settings: Settings): Buffer
  now(frame: Buffer, length: number): Buffer
  later(frame: Buffer, length: number): Promise<Buffer>
}

const refused = (what: string, cause?: unknown): Error => new Error(what, { cause })

const IN_USE: ZstdInUse = {
  compress,
  now: (frame, length) => decompressNow(frame, length, refused),
  later: (frame, length) => decompress({ codec: 'zstd', bytes: frame }, length, refused),
}

/**
 * What is tried at most by who does not pack. The start of a program may stand idle for weeks, and would keep the memory of the longest for as long. Who reads compares all that it decodes with
 * its names, and is tried so that a wrong decoder does not pass for damaged backups.
 */
export const SHORTER = 400_000

let tried: Promise<void> | undefined
let triedToPack: Promise<void> | undefined

/** Once in each process: before a program whose jobs will pack or read does anything, and before a backup is touched. It stays refused. */
export const requireZstd = (): Promise<void> => (tried ??= tryZstd(IN_USE, SHORTER))

/** Once in each process that packs, before it touches a source. It stays refused. */
export const requireZstdToPack = (): Promise<void> => (triedToPack ??= tryZstd(IN_USE))

/** Throws `internal` with what went wrong. */
export async function tryZstd(zstd: ZstdInUse, longest: number = LIMITS.block): Promise<void> {
  for (const [what, frame, plain] of FOREIGN) await comesBack(zstd, what, Buffer.from(frame, 'hex'), Buffer.from(plain), BOTH)
  for (const { what, plain, compressed, decoded } of samples(longest)) {
    for (const settings of compressed) {
      const frame = attempt(what, () => zstd.compress(plain, settings))
      await comesBack(zstd, what, frame, plain, decoded)
      free(frame)
    }
    free(plain)
  }
  await wrongIsRefused(zstd)
}

/** Both are the same code of the library, and other code of Node's. */
type Form = 'now' | 'later'
const NOW: readonly Form[] = ['now']
const LATER: readonly Form[] = ['later']
const BOTH: readonly Form[] = ['now', 'later']

async function comesBack(zstd: ZstdInUse, what: string, frame: Buffer, plain: Buffer, forms: readonly Form[]): Promise<void> {
  for (const form of forms) {
    const decoded = await attempt(what, () => zstd[form](frame, plain.length))
    if (!decoded.equals(plain)) throw broken(`gives ${what} back as something else`)
    free(decoded)
  }
}

/** Node has taken frames that were cut off for whole ones, and what follows a frame for nothing. */
async function wrongIsRefused(zstd: ZstdInUse): Promise<void> {
  const plain = text(300_000)
  const frame = zstd.compress(plain, WIDE)
  const { length } = plain
  const wrong: Array<readonly [string, Buffer, number]> = [
    ['a frame without its last byte', frame.subarray(0, -1), length],
    ['half a frame', frame.subarray(0, frame.length / 2), length],
    ['a frame with a byte after it', Buffer.concat([frame, Buffer.alloc(1)]), length],
    ['a frame that is longer than is said', frame, length - 1],
    ['a frame that is shorter than is said', frame, length + 1],
  ]
  for (const [what, bytes, said] of wrong) {
    for (const form of BOTH) {
      const [result] = await Promise.allSettled([(async () => zstd[form](bytes, said))()])
      if (result.status === 'fulfilled') throw broken(`takes ${what}`)
    }
  }
}

/** Frames that another version of the library (1.5.4, at its highest level) has made: a wrong way that fits a wrong way back is found by these. */
const FOREIGN = [
  ['three bytes as they are', '28b52ffd2003190000616263', 'abc'],
  [
    'a frame with a checksum',
    '28b52ffd04683d0100e8776861742077617320676976656e20636f6d6573206261636b2c203b2002008a3af5e35d9e63598580c7',
    'what was given comes back, what was given; '.repeat(40),
  ],
] as const

const WAYS = [WIDE, NARROW, FAST, DEEP]

interface Sample {
  readonly what: string
  readonly plain: Buffer
  readonly compressed: readonly Settings[]
  readonly decoded: readonly Form[]
}

/**
 * Lengths around those of the library's blocks (128 KiB), beyond its windows (256 KiB and 2 MiB), and the longest that there are. In another thread one of each kind is decoded: empty, as it is,
 * compressed, over the end of a block, the longest.
 */
function* samples(longest: number): Generator<Sample> {
  for (const [length, decoded] of SHORT)
    yield { what: `${length} bytes of text`, plain: text(length), compressed: [WIDE], decoded }
  yield { what: '300000 bytes of text', plain: text(300_000), compressed: WAYS, decoded: NOW }
  yield { what: 'bytes that do not shrink', plain: noise(400_000), compressed: WAYS, decoded: NOW }
  if (longest < LIMITS.block) return
  yield { what: '2500000 bytes of text', plain: text(2_500_000), compressed: [WIDE], decoded: NOW }
  yield { what: 'a block of zeros', plain: Buffer.alloc(LIMITS.block), compressed: [WIDE], decoded: LATER }
}

const SHORT = [
  [0, BOTH],
  [1, NOW],
  [64, BOTH],
  [131_071, NOW],
  [131_072, NOW],
  [131_073, BOTH],
] as const

/** Lines in which numbers count up: long matches, short ones and single bytes. Of 52 bytes, so that numbers are whole words: this runs before it is compiled. */
function text(length: number): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4))
  const plain = Buffer.from(words.buffer, 0, length)
  plain.fill('row 0000\tname of a customer\t2026-01-01 00:00:00Z\t\\N\n')
  for (let at = 1, n = 0; at < words.length; at += 13, n++) words[at] = Math.imul(n, 2_654_435_761) >>> (n % 24)
  return plain
}

/** By a cipher, for the same reason. */
function noise(length: number): Buffer {
  const zeros = Buffer.alloc(length)
  const plain = createCipheriv('aes-128-ctr', zeros.subarray(0, 16), zeros.subarray(0, 16)).update(zeros)
  free(zeros)
  return plain
}

function attempt<T>(what: string, work: () => T): T {
  const failed = (cause: unknown): never => {
    throw broken(`fails with ${what}`, cause)
  }
  try {
    const made = work()
    return made instanceof Promise ? (made.catch(failed) as T) : made
  } catch (cause) {
    return failed(cause)
  }
}

const broken = (what: string, cause?: unknown) =>
  new HoldfastError('internal', `zstd of Node ${process.versions.node} ${what}`, {
    hint: 'Install the version of Node that comes with this program: with this one backups could be lost.',
    cause,
  })
