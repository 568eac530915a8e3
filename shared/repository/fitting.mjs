import { compress, free, NARROW, WIDE } from './packing.mjs'

// JavaScript, with its types in fitting.d.mts, for the threads of codec-threads.ts.

/** Shorter blocks are few, and soon done. */
const TRIED_FROM = 512 * 1024
/** Blocks from one that is compressed in both ways to the next: 2 % of the time of compressing. */
const EVERY = 48
/** What the faster way may store more. */
const WORSE = 1.005
/** A block that comes out so much smaller or larger than the one that was tried is of other data. */
const OTHER_DATA = 1.15

/** Which settings fit is tried now and then, and kept for the blocks that follow. */
export class FittingCompressor {
  #compress
  #narrow = false
  /** Of the plaintext, what the block took that was tried. */
  #ratio = 0
  #untilTrial = 0

  constructor(compressWith = compress) {
    this.#compress = compressWith
  }

  compress(plain) {
    if (plain.length < TRIED_FROM) return this.#compress(plain, WIDE)
    if (this.#untilTrial === 0) return this.#try(plain, this.#compress(plain, NARROW))
    this.#untilTrial--
    if (!this.#narrow) return this.#compress(plain, WIDE)
    const packed = this.#compress(plain, NARROW)
    const change = packed.length / (plain.length * this.#ratio)
    return change > OTHER_DATA || change < 1 / OTHER_DATA ? this.#try(plain, packed) : packed
  }

  #try(plain, narrow) {
    const wide = this.#compress(plain, WIDE)
    this.#narrow = narrow.length <= wide.length * WORSE
    this.#ratio = narrow.length / plain.length
    this.#untilTrial = EVERY - 1
    const [kept, other] = this.#narrow ? [narrow, wide] : [wide, narrow]
    free(other)
    return kept
  }
}
