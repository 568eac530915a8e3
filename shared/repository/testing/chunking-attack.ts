import { seededBytes } from './content.ts'

/**
 * What the attacks on content-defined chunking do with lengths (Truong, Merz, Scarlata, Günther and Paterson, "Breaking and Fixing Content-Defined Chunking",
 * 2025; Alexeev, Percival and Zhang, "Chunking Attacks on File Backup Services using Content-Defined Chunking", 2025), for the gear hash of this format.
 */

const WINDOW = 32
export const LETTERS = [0x61, 0x62] as const

/** Text of two letters, one bit each. */
export function twoLetters(seed: number, length: number): Buffer {
  const noise = seededBytes(seed, Math.ceil(length / 8))
  const text = Buffer.alloc(length)
  for (let n = 0; n < length; n++) text[n] = LETTERS[((noise[n >> 3] as number) >> (n & 7)) & 1] as number
  return text
}

/** Noise with islands of two letters: it does not shrink, so that a chunk's length shows although chunks are compressed. */
export function noiseWithIslands(seed: number, length: number): Buffer {
  const bytes = seededBytes(seed, length)
  const text = twoLetters(seed + 1, Math.ceil(length / EVERY) * ISLAND)
  for (let at = 0, n = 0; at + ISLAND <= length; at += EVERY, n++) text.copy(bytes, at, n * ISLAND, (n + 1) * ISLAND)
  return bytes
}

const ISLAND = 96
const EVERY = 2400

/**
 * The difference of the gear values of the two letters, out of places where chunks end in known data; null when they fit no table. With the letters
 * of the last 32 bytes as the bits of A, the hash is A * difference - (value of the second letter), all modulo 2^32, and its top bits are zero
 * wherever a chunk ends: so for two such places (A - A') * difference is small, and there are few small numbers. Without its sign, which the ends of
 * chunks below the average tell, where two bits more are zero. The same with other letters gives the rest of the table.
 *
 * `bits`: those that are zero at least (FORMAT.md section 6).
 */
export function solveForLetters(plain: Buffer, ends: readonly number[], bits: number): number | null {
  const windows = ends.map((end) => windowAt(plain, end)).filter((window) => window !== null)
  const first = windows[0]
  if (first === undefined) return null
  const differences = windows.slice(1).map((window) => (window - first) | 0)
  const odd = differences.find((difference) => difference & 1)
  // fewer would be fitted by more than one table
  if (odd === undefined || differences.length < 4) return null
  const inverse = inverseOf(odd)
  const bound = 2 ** (32 - bits)
  let best = { candidate: null as number | null, spread: bound }
  for (let small = 1; small < bound; small++) {
    const candidate = Math.imul(small, inverse)
    if (differences.some((difference) => Math.abs(Math.imul(difference, candidate)) >= bound)) continue
    // twice as much may fit too, and is spread twice as far
    const values = [0, ...differences.map((difference) => Math.imul(difference, candidate))]
    const spread = Math.max(...values) - Math.min(...values)
    if (spread < best.spread) best = { candidate: Math.abs(candidate), spread }
  }
  return best.candidate
}

/** The last letters before a place as bits, the last one lowest. */
function windowAt(plain: Buffer, end: number): number | null {
  let bits = 0
  for (let n = 0; n < WINDOW; n++) {
    const byte = plain[end - 1 - n]
    if (byte !== LETTERS[0] && byte !== LETTERS[1]) return null
    if (byte === LETTERS[0]) bits |= 1 << n
  }
  return bits
}

/** Of an odd number modulo 2^32, by Newton's method: each turn doubles the bits that are right. */
function inverseOf(odd: number): number {
  let inverse = odd
  for (let turn = 0; turn < 5; turn++) inverse = Math.imul(inverse, 2 - Math.imul(odd, inverse))
  return inverse
}
