import { LIMITS } from './format.ts'

/** Of the base's blocks the bits of every so many begin at a noted byte; between them they are counted up. */
const NOTED = 16

/**
 * Every block that a running backup may reference, by a small number: first those of the base (as the known list numbers them),
 * then its own. A block of its own has a number from the moment it is begun, and a place (pack, block) once it is sealed. Beside it
 * stands which of its chunks the contents reference. Typed arrays, and of the base's blocks nothing but those bits: a terabyte has a million blocks.
 */
export class Places {
  /** Blocks with a smaller number are the base's. */
  readonly base: number
  readonly #baseChunks: readonly number[] | Uint8Array | Uint16Array
  readonly #baseByte: Uint32Array
  /** By themselves, and never moved: what nothing of is used takes no memory, since the kernel gives pages when they are written. */
  readonly #baseBits: Uint8Array
  /** Of its own blocks, from `base` on. */
  #own = 0
  #pack = new Int32Array(1024).fill(UNPLACED)
  #block = new Uint16Array(1024)
  #chunks = new Uint16Array(1024)
  /** Where the block's bits begin: in a byte of their own. */
  #byte = new Uint32Array(1024)
  #bits = new Uint8Array(4096)
  #nextByte = 0

  /** `baseChunks` is kept. */
  constructor(baseChunks: readonly number[] | Uint8Array | Uint16Array) {
    this.base = baseChunks.length
    this.#baseChunks = baseChunks
    this.#baseByte = new Uint32Array(Math.ceil(this.base / NOTED))
    let bits = 0
    for (let n = 0; n < this.base; n++) {
      if (n % NOTED === 0) {
        bits = Math.ceil(bits / 8) * 8
        this.#baseByte[n / NOTED] = bits / 8
      }
      bits += requireChunks(baseChunks[n] as number)
    }
    this.#baseBits = new Uint8Array(Math.ceil(bits / 8))
  }

  /** All numbers are below it. */
  get count(): number {
    return this.base + this.#own
  }

  begin(): number {
    if (this.#own === this.#pack.length) this.#grow()
    return this.base + this.#own++
  }

  /** `pack` counts the packs that this backup may use, in any order: the number in the manifest comes later. */
  place(ref: number, pack: number, block: number, chunks: number): void {
    const row = ref - this.base
    this.#pack[row] = pack
    this.#block[row] = block
    this.#chunks[row] = requireChunks(chunks)
    this.#byte[row] = this.#nextByte
    this.#nextByte += Math.ceil(chunks / 8)
    if (this.#nextByte > this.#bits.length)
      this.#bits = enlarge(this.#bits, new Uint8Array(Math.max(this.#nextByte, Math.ceil(this.#bits.length * 1.25))))
  }

  isPlaced(ref: number): boolean {
    return ref < this.base || this.#pack[ref - this.base] !== UNPLACED
  }
  packOf(ref: number): number {
    return this.#pack[ref - this.base] as number
  }
  blockOf(ref: number): number {
    return this.#block[ref - this.base] as number
  }
  chunksOf(ref: number): number {
    return (ref < this.base ? this.#baseChunks[ref] : this.#chunks[ref - this.base]) as number
  }

  markUsed(ref: number, first: number, count: number): void {
    if (first + count > this.chunksOf(ref))
      throw new RangeError(`chunks ${first} to ${first + count} of a block of ${this.chunksOf(ref)}`)
    const bits = this.#bitsOf(ref)
    const from = this.#bitOf(ref) + first
    for (let bit = from; bit < from + count; bit++) (bits[Math.floor(bit / 8)] as number) |= 1 << (bit % 8)
  }

  isUsed(ref: number, index: number): boolean {
    const bit = this.#bitOf(ref) + index
    return ((this.#bitsOf(ref)[Math.floor(bit / 8)] as number) & (1 << (bit % 8))) !== 0
  }

  /** Whether any chunk of it is. */
  hasUsed(ref: number): boolean {
    const bits = this.#bitsOf(ref)
    const from = this.#bitOf(ref)
    const to = from + this.chunksOf(ref)
    for (let bit = from; bit < to; bit++) if (((bits[Math.floor(bit / 8)] as number) & (1 << (bit % 8))) !== 0) return true
    return false
  }

  /** The used chunks of a block, joined. */
  usedRuns(ref: number): Array<{ first: number; count: number }> {
    const runs: Array<{ first: number; count: number }> = []
    const chunks = this.chunksOf(ref)
    for (let n = 0; n < chunks; n++) {
      if (!this.isUsed(ref, n)) continue
      const first = n
      while (n + 1 < chunks && this.isUsed(ref, n + 1)) n++
      runs.push({ first, count: n + 1 - first })
    }
    return runs
  }

  #bitsOf(ref: number): Uint8Array {
    return ref < this.base ? this.#baseBits : this.#bits
  }

  #bitOf(ref: number): number {
    if (ref >= this.base) return (this.#byte[ref - this.base] as number) * 8
    const noted = Math.floor(ref / NOTED)
    let bit = (this.#baseByte[noted] as number) * 8
    for (let n = noted * NOTED; n < ref; n++) bit += this.#baseChunks[n] as number
    return bit
  }

  #grow(): void {
    const room = this.#pack.length * 2
    const pack = new Int32Array(room).fill(UNPLACED)
    pack.set(this.#pack)
    this.#pack = pack
    this.#block = enlarge(this.#block, new Uint16Array(room))
    this.#chunks = enlarge(this.#chunks, new Uint16Array(room))
    this.#byte = enlarge(this.#byte, new Uint32Array(room))
  }
}

function requireChunks(chunks: number): number {
  if (chunks > LIMITS.chunksPerBlock) throw new RangeError(`a block of ${chunks} chunks`)
  return chunks
}

const UNPLACED = -1

function enlarge<T extends Uint8Array | Uint16Array | Uint32Array>(from: T, to: T): T {
  to.set(from)
  return to
}
