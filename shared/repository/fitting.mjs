import { compress, FAST, free, NARROW, WIDE } from './packing.mjs'

// JavaScript, with its types in fitting.d.mts, for the threads of codec-threads.ts.

/** The faster first, each with what it may store more than WIDE. */
const FASTER = [
  { settings: FAST, worse: 1.03 },
  { settings: NARROW, worse: 1.005 },
]
/** Shorter blocks are few, and soon done. */
const TRIED_FROM = 512 * 1024
/** Blocks until the next one is tried: at first, and twice as many each time, up to the most, which costs 2 or 3 % of the time of compressing. */
const EVERY = 6
const EVERY_AT_MOST = 96
/** A block that comes out so much smaller or larger than the one that was tried is of other data. */
const OTHER_DATA = 1.15

export class FittingCompressor {
  #compress
  #settings = WIDE
  /** Of the plaintext, what the block took that was tried. */
  #ratio = 0
  #untilTrial = 0
  #every = EVERY

  constructor(compressWith = compress) {
    this.#compress = compressWith
  }

  compress(plain) {
    if (plain.length < TRIED_FROM) return this.#compress(plain, WIDE)
    if (this.#untilTrial === 0) return this.#try(plain)
    this.#untilTrial--
    const packed = this.#compress(plain, this.#settings)
    return this.#settings === WIDE || this.#isLikeTheTried(plain, packed) ? packed : this.#otherData(plain, packed)
  }

  #isLikeTheTried(plain, packed) {
    const change = packed.length / (plain.length * this.#ratio)
    return change < OTHER_DATA && change > 1 / OTHER_DATA
  }

  /** What is of many kinds, by turns, is to cost little more than one way: it gets WIDE until the next trial. */
  #otherData(plain, packed) {
    const wide = this.#compress(plain, WIDE)
    this.#settings = WIDE
    this.#waitForTrial()
    const [kept, other] = packed.length <= wide.length ? [packed, wide] : [wide, packed]
    free(other)
    return kept
  }

  #waitForTrial() {
    this.#untilTrial = this.#every - 1
    this.#every = Math.min(2 * this.#every, EVERY_AT_MOST)
  }

  #try(plain) {
    const wide = this.#compress(plain, WIDE)
    let [fits, settings] = [wide, WIDE]
    for (const way of FASTER) {
      const packed = this.#compress(plain, way.settings)
      if (packed.length <= wide.length * way.worse) {
        ;[fits, settings] = [packed, way.settings]
        free(wide)
        break
      }
      free(packed)
    }
    this.#settings = settings
    this.#ratio = fits.length / plain.length
    this.#waitForTrial()
    return fits
  }
}
