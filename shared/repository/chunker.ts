import { endianness } from 'node:os'
import type { Chunking } from '../artifacts.ts'
import { HoldfastError } from '../errors.ts'
import { gearTableBytes, MIB } from './format.ts'

/**
 * Cuts a stream into chunks (FORMAT.md section 6). `push` calls `emit` for each finished chunk; the bytes given to it are a
 * view that is valid only during the call. The cuts do not depend on how the input is split.
 */
export interface Chunker {
  push(bytes: Buffer): void
  /** Ends the current chunk: the end of an extent or of the artifact. The chunker can be used again. */
  end(): void
}

export function createChunker(chunking: Chunking, gear: Int32Array, emit: (chunk: Buffer) => void): Chunker {
  const splitter = chunking.kind === 'fixed' ? fixedSplitter(chunking.bytes) : gearSplitter(chunking.averageBytes, gear)
  return new BufferingChunker(splitter, emit)
}

/** Decides where the chunk that begins at `start` ends. Keeps its state between calls until it has found an end. */
interface Splitter {
  readonly max: number
  /** Looks at bytes[from..to); `done` bytes of the chunk were looked at before. The end (exclusive), or -1 when it lies further on. */
  scan(bytes: Buffer, from: number, to: number, done: number): number
}

class BufferingChunker implements Chunker {
  readonly #splitter: Splitter
  readonly #emit: (chunk: Buffer) => void
  /** Bytes of a chunk that began in an earlier push. Grows: a database may have a hundred thousand small tables. */
  #carry = Buffer.alloc(0)
  #carried = 0

  constructor(splitter: Splitter, emit: (chunk: Buffer) => void) {
    this.#splitter = splitter
    this.#emit = emit
  }

  push(bytes: Buffer): void {
    let start = 0
    while (start < bytes.length) {
      const to = Math.min(bytes.length, start + this.#splitter.max - this.#carried)
      const end = this.#splitter.scan(bytes, start, to, this.#carried)
      if (end < 0) {
        this.#keep(bytes.subarray(start, to))
        return
      }
      if (this.#carried === 0) this.#emit(bytes.subarray(start, end))
      else {
        this.#keep(bytes.subarray(start, end))
        this.end()
      }
      start = end
    }
  }

  end(): void {
    if (this.#carried === 0) return
    const length = this.#carried
    this.#carried = 0
    this.#emit(this.#carry.subarray(0, length))
  }

  #keep(bytes: Buffer): void {
    const needed = this.#carried + bytes.length
    if (needed > this.#carry.length) {
      const grown = Buffer.allocUnsafe(Math.min(this.#splitter.max, Math.max(needed, this.#carry.length * 4)))
      this.#carry.copy(grown, 0, 0, this.#carried)
      this.#carry = grown
    }
    bytes.copy(this.#carry, this.#carried)
    this.#carried += bytes.length
  }
}

function fixedSplitter(size: number): Splitter {
  if (!Number.isInteger(size) || size < 512 || size > MIB) throw unusable(`fixed chunks of ${size} bytes`)
  return { max: size, scan: (_bytes, from, to, done) => (done + to - from >= size ? from + size - done : -1) }
}

/** 256 values out of the source's gear key; signed, so that sums stay within the machine's integers. */
export function gearTable(gearKey: Buffer): Int32Array {
  const bytes = gearTableBytes(gearKey)
  return Int32Array.from({ length: 256 }, (_, n) => bytes.readInt32LE(n * 4))
}

/**
 * Gear hash with normalised chunking (Xia et al., "FastCDC", USENIX ATC 2016): the top bits of a hash over the last 32 bytes, a
 * stricter mask before the average and a looser one after it.
 */
function gearSplitter(average: number, gear: Int32Array): Splitter {
  const bits = Math.log2(average)
  if (!Number.isInteger(bits) || bits < 12 || bits > 20) throw unusable(`content-defined chunks of ${average} bytes`)
  const min = average / 4
  // a block at most: 4 MiB
  const max = average * 4
  const strict = topBits(bits + 1)
  const loose = topBits(bits - 1)
  const state = new Int32Array(1)
  return {
    max,
    scan(bytes, from, to, done) {
      if (done === 0) state[0] = 0
      load(gear)
      const origin = from - done
      const begin = Math.max(from, origin + min)
      const turn = Math.max(begin, Math.min(to, origin + average))
      let end = roll(bytes, begin, turn, strict, state)
      if (end < 0) end = roll(bytes, turn, to, loose, state)
      if (end >= 0) return end
      return to - origin >= max ? to : -1
    },
  }
}

/**
 * The table in use. V8 knows where a constant of a module lies and how long it is, so that a look-up with a byte is checked by nobody: with the table as an argument the
 * loops took 1.7 times as long.
 */
const GEAR = new Int32Array(256)
let loaded: Int32Array | null = null

function load(gear: Int32Array): void {
  if (gear === loaded) return
  GEAR.set(gear)
  loaded = gear
}

const topBits = (count: number): number => (-1 << (32 - count)) | 0

/** The end of the chunk, or -1. `state` carries the hash on. */
function roll(bytes: Buffer, from: number, to: number, mask: number, state: Int32Array): number {
  // where a whole word of memory begins
  const aligned = from + (-(bytes.byteOffset + from) & 3)
  if (!LITTLE_ENDIAN || to - aligned < LANES) return step(bytes, from, to, mask, state)
  const end = step(bytes, from, aligned, mask, state)
  if (end >= 0) return end
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + aligned, (to - aligned) >> 2)
  let at = aligned
  while (to - at >= LANES && leap(bytes, at, words, (at - aligned) >> 2, mask, state)) at += LANES
  return step(bytes, at, to, mask, state)
}

/** Byte by byte. */
function step(bytes: Buffer, from: number, to: number, mask: number, state: Int32Array): number {
  let hash = state[0] as number
  for (let at = from; at < to; at++) {
    hash = ((hash << 1) + (GEAR[bytes[at] as number] as number)) | 0
    if ((hash & mask) === 0) return at + 1
  }
  state[0] = hash
  return -1
}

/** Bytes that one of four hashes runs over. */
const LANE = 1024
const LANES = 4 * LANE
const LANE_WORDS = LANE / 4
/** A byte has left the hash after as many more. */
const WINDOW = 32
const LITTLE_ENDIAN = endianness() === 'LE'

/**
 * True when no chunk ends in the next four lanes, which are hashed side by side: each step waits for the one before it, so that a processor does four of
 * them in little more time than one. Each lane but the first begins with the bytes before it that its hash depends on. Four bytes are read at a time: `words` is the same
 * memory as `bytes`, the first lane begins at `from` in the one and at `word` in the other.
 */
function leap(bytes: Buffer, from: number, words: Int32Array, word: number, mask: number, state: Int32Array): boolean {
  const [second, third, fourth] = [from + LANE, from + 2 * LANE, from + 3 * LANE]
  let [a, b, c, d] = [state[0] as number, 0, 0, 0]
  for (let n = -WINDOW; n < 0; n++) {
    b = ((b << 1) + (GEAR[bytes[second + n] as number] as number)) | 0
    c = ((c << 1) + (GEAR[bytes[third + n] as number] as number)) | 0
    d = ((d << 1) + (GEAR[bytes[fourth + n] as number] as number)) | 0
  }
  for (let n = word; n < word + LANE_WORDS; n++) {
    const p = words[n] as number
    const q = words[n + LANE_WORDS] as number
    const r = words[n + 2 * LANE_WORDS] as number
    const s = words[n + 3 * LANE_WORDS] as number
    a = ((a << 1) + (GEAR[p & 255] as number)) | 0
    b = ((b << 1) + (GEAR[q & 255] as number)) | 0
    c = ((c << 1) + (GEAR[r & 255] as number)) | 0
    d = ((d << 1) + (GEAR[s & 255] as number)) | 0
    if ((a & mask) === 0 || (b & mask) === 0 || (c & mask) === 0 || (d & mask) === 0) return false
    a = ((a << 1) + (GEAR[(p >>> 8) & 255] as number)) | 0
    b = ((b << 1) + (GEAR[(q >>> 8) & 255] as number)) | 0
    c = ((c << 1) + (GEAR[(r >>> 8) & 255] as number)) | 0
    d = ((d << 1) + (GEAR[(s >>> 8) & 255] as number)) | 0
    if ((a & mask) === 0 || (b & mask) === 0 || (c & mask) === 0 || (d & mask) === 0) return false
    a = ((a << 1) + (GEAR[(p >>> 16) & 255] as number)) | 0
    b = ((b << 1) + (GEAR[(q >>> 16) & 255] as number)) | 0
    c = ((c << 1) + (GEAR[(r >>> 16) & 255] as number)) | 0
    d = ((d << 1) + (GEAR[(s >>> 16) & 255] as number)) | 0
    if ((a & mask) === 0 || (b & mask) === 0 || (c & mask) === 0 || (d & mask) === 0) return false
    a = ((a << 1) + (GEAR[p >>> 24] as number)) | 0
    b = ((b << 1) + (GEAR[q >>> 24] as number)) | 0
    c = ((c << 1) + (GEAR[r >>> 24] as number)) | 0
    d = ((d << 1) + (GEAR[s >>> 24] as number)) | 0
    if ((a & mask) === 0 || (b & mask) === 0 || (c & mask) === 0 || (d & mask) === 0) return false
  }
  state[0] = d
  return true
}

const unusable = (what: string) =>
  new HoldfastError('invalid_argument', `${what} are not supported`, {
    hint: 'Use a power of two from 4 KiB to 1 MiB for content-defined chunks, and 512 bytes to 1 MiB for fixed ones.',
  })
