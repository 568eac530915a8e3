import { LIMITS } from './format.ts'

/**
 * Every block that a running backup may reference, by a small number: first those of the base (as the known list numbers them),
 * then its own. A block of its own has a number from the moment it is begun, and a place (pack, block) once it is sealed. Beside it
 * stands which of its chunks the contents reference. Typed arrays: a terabyte has a million blocks.
 */
export class Places {
  /** Blocks with a smaller number are the base's. */
  readonly base: number
  #count: number
  #pack: Int32Array
  #block: Uint16Array
  #chunks: Uint16Array
  /** Where the block's bits begin. */
  #bit: Float64Array
  #bits = new Uint8Array(4096)
  #nextBit = 0

  constructor(baseChunks: readonly number[] | Uint16Array) {
    this.base = baseChunks.length
    this.#count = this.base
    const room = Math.max(1024, this.base * 2)
    this.#pack = new Int32Array(room).fill(UNPLACED)
    this.#block = new Uint16Array(room)
    this.#chunks = new Uint16Array(room)
    this.#bit = new Float64Array(room)
    for (let n = 0; n < this.base; n++) this.#allocate(n, baseChunks[n] as number)
  }

  /** All numbers are below it. */
  get count(): number {
    return this.#count
  }

  begin(): number {
    if (this.#count === this.#pack.length) this.#grow()
    return this.#count++
  }

  /** `pack` counts the packs that this backup may use, in any order: the number in the manifest comes later. */
  place(ref: number, pack: number, block: number, chunks: number): void {
    this.#pack[ref] = pack
    this.#block[ref] = block
    this.#allocate(ref, chunks)
  }

  isPlaced(ref: number): boolean {
    return ref < this.base || this.#pack[ref] !== UNPLACED
  }
  packOf(ref: number): number {
    return this.#pack[ref] as number
  }
  blockOf(ref: number): number {
    return this.#block[ref] as number
  }
  chunksOf(ref: number): number {
    return this.#chunks[ref] as number
  }

  markUsed(ref: number, first: number, count: number): void {
    if (first + count > this.chunksOf(ref))
      throw new RangeError(`chunks ${first} to ${first + count} of a block of ${this.chunksOf(ref)}`)
    const from = (this.#bit[ref] as number) + first
    for (let bit = from; bit < from + count; bit++) (this.#bits[Math.floor(bit / 8)] as number) |= 1 << (bit % 8)
  }

  isUsed(ref: number, index: number): boolean {
    const bit = (this.#bit[ref] as number) + index
    return ((this.#bits[Math.floor(bit / 8)] as number) & (1 << (bit % 8))) !== 0
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

  #allocate(ref: number, chunks: number): void {
    if (chunks > LIMITS.chunksPerBlock) throw new RangeError(`a block of ${chunks} chunks`)
    this.#chunks[ref] = chunks
    this.#bit[ref] = this.#nextBit
    this.#nextBit += chunks
    const bytes = Math.ceil(this.#nextBit / 8)
    if (bytes <= this.#bits.length) return
    const grown = new Uint8Array(Math.max(bytes, this.#bits.length * 2))
    grown.set(this.#bits)
    this.#bits = grown
  }

  #grow(): void {
    const room = this.#pack.length * 2
    const pack = new Int32Array(room).fill(UNPLACED)
    pack.set(this.#pack)
    this.#pack = pack
    this.#block = enlarge(this.#block, new Uint16Array(room))
    this.#chunks = enlarge(this.#chunks, new Uint16Array(room))
    this.#bit = enlarge(this.#bit, new Float64Array(room))
  }
}

const UNPLACED = -1

function enlarge<T extends Uint16Array | Float64Array>(from: T, to: T): T {
  to.set(from)
  return to
}
