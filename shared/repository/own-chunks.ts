import { NAME_BYTES } from './format.ts'

/** Where a chunk lies: the number of its block in Places, and its position in it. */
export interface ChunkPlace {
  readonly ref: number
  readonly index: number
}

/**
 * The chunks that this backup itself has stored: a hash table in typed arrays. Bounded: past the cap, new chunks are not
 * entered, so that one that comes again is stored again. At most 50 MB. What earlier attempts stored has EarlierChunks for the rest of it.
 */
export class OwnChunks {
  readonly #cap: number
  #count = 0
  #slots: Int32Array
  #names: Buffer
  #ref: Uint32Array
  #index: Uint16Array

  constructor(cap = 1_000_000) {
    this.#cap = cap
    this.#slots = new Int32Array(8192).fill(EMPTY)
    this.#names = Buffer.alloc(4096 * NAME_BYTES)
    this.#ref = new Uint32Array(4096)
    this.#index = new Uint16Array(4096)
  }

  get count(): number {
    return this.#count
  }

  /** Whether so many more of earlier attempts fit: they leave half of the room to what this one stores. */
  hasRoomFor(chunks: number): boolean {
    return this.#count + chunks <= this.#cap / 2
  }

  get(name: Buffer): ChunkPlace | null {
    const row = this.#slots[this.#slot(name)] as number
    return row === EMPTY ? null : { ref: this.#ref[row] as number, index: this.#index[row] as number }
  }

  add(name: Buffer, ref: number, index: number): void {
    if (this.#count >= this.#cap) return
    if (this.#count === this.#ref.length) this.#grow()
    const slot = this.#slot(name)
    if (this.#slots[slot] !== EMPTY) return
    const row = this.#count++
    this.#slots[slot] = row
    name.copy(this.#names, row * NAME_BYTES)
    this.#ref[row] = ref
    this.#index[row] = index
  }

  /** The slot that holds the name, or the empty one where it would go. Names are compared whole. */
  #slot(name: Buffer): number {
    const mask = this.#slots.length - 1
    let slot = name.readUInt32LE(0) & mask
    for (;;) {
      const row = this.#slots[slot] as number
      if (row === EMPTY || name.compare(this.#names, row * NAME_BYTES, (row + 1) * NAME_BYTES) === 0) return slot
      slot = (slot + 1) & mask
    }
  }

  #grow(): void {
    const rows = this.#ref.length * 2
    const names = Buffer.alloc(rows * NAME_BYTES)
    this.#names.copy(names)
    this.#names = names
    const ref = new Uint32Array(rows)
    ref.set(this.#ref)
    this.#ref = ref
    const index = new Uint16Array(rows)
    index.set(this.#index)
    this.#index = index
    this.#slots = new Int32Array(rows * 2).fill(EMPTY)
    for (let row = 0; row < this.#count; row++) {
      this.#slots[this.#slot(this.#names.subarray(row * NAME_BYTES, (row + 1) * NAME_BYTES))] = row
    }
  }
}

const EMPTY = -1
