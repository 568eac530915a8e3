import { closeSync, openSync } from 'node:fs'
import { crc32 } from 'node:zlib'
import { NAME_BYTES } from './format.ts'
import { readUpTo, writeWhole } from './positioned.ts'

/** Where a chunk lies: the number of its block in Places, and its position in it. */
export interface ChunkPlace {
  readonly ref: number
  readonly index: number
}

/**
 * The chunks that this backup itself has stored: a hash table in typed arrays. Bounded: past the cap, new chunks are not
 * entered, so that one that comes again is stored again. What earlier attempts stored has EarlierChunks for the rest of it.
 *
 * Names and places beyond the first 65,536 lie in a file, where there is one, and memory has the first four bytes of each: 15 MB for a million.
 */
export class OwnChunks {
  readonly #cap: number
  readonly #rows: Rows
  #count = 0
  #slots = new Int32Array(8192).fill(EMPTY)
  #prefix = new Uint32Array(4096)

  constructor(cap = 1_000_000, file: string | null = null) {
    this.#cap = cap
    this.#rows = new Rows(file)
  }

  get count(): number {
    return this.#count
  }

  /** Whether so many more of earlier attempts fit: they leave half of the room to what this one stores. */
  hasRoomFor(chunks: number): boolean {
    return this.#count + chunks <= this.#cap / 2
  }

  get(name: Buffer): ChunkPlace | null {
    const row = this.#find(name)
    return row && { ref: row.readUInt32LE(ROW.ref), index: row.readUInt16LE(ROW.index) }
  }

  add(name: Buffer, ref: number, index: number): void {
    if (this.#count >= this.#cap || this.#find(name)) return
    if (this.#count === this.#prefix.length) this.#grow()
    const row = this.#count++
    this.#prefix[row] = name.readUInt32LE(0)
    this.#enter(row)
    this.#rows.push(name, ref, index)
  }

  close(): void {
    this.#rows.close()
  }

  /** A view of its row, valid until the next call. Names are compared whole. */
  #find(name: Buffer): Buffer | null {
    const prefix = name.readUInt32LE(0)
    const mask = this.#slots.length - 1
    for (let slot = prefix & mask; this.#slots[slot] !== EMPTY; slot = (slot + 1) & mask) {
      const at = this.#slots[slot] as number
      if (this.#prefix[at] !== prefix) continue
      const row = this.#rows.at(at)
      if (row && name.compare(row, 0, NAME_BYTES) === 0) return row
    }
    return null
  }

  #enter(row: number): void {
    const mask = this.#slots.length - 1
    let slot = (this.#prefix[row] as number) & mask
    while (this.#slots[slot] !== EMPTY) slot = (slot + 1) & mask
    this.#slots[slot] = row
  }

  #grow(): void {
    const prefix = new Uint32Array(this.#prefix.length * 2)
    prefix.set(this.#prefix)
    this.#prefix = prefix
    this.#slots = new Int32Array(prefix.length * 2).fill(EMPTY)
    for (let row = 0; row < this.#count; row++) this.#enter(row)
  }
}

const EMPTY = -1
const ROW = { ref: NAME_BYTES, index: NAME_BYTES + 4, sum: NAME_BYTES + 6, bytes: NAME_BYTES + 10 } as const
const IN_MEMORY = 65_536
/** Rows that are written at a time. */
const WINDOW = 1024

/** Rows by number: the first in memory, the others in a file, each with a checksum. */
class Rows {
  readonly #file: string | null
  #fd: number | null = null
  #memory = Buffer.alloc(4096 * ROW.bytes)
  #count = 0
  /** Rows of the file that are not written yet. */
  #window = Buffer.alloc(0)
  #written = 0
  readonly #read = Buffer.alloc(ROW.bytes)

  constructor(file: string | null) {
    this.#file = file
  }

  push(name: Buffer, ref: number, index: number): void {
    const row = this.#next()
    name.copy(row, 0, 0, NAME_BYTES)
    row.writeUInt32LE(ref, ROW.ref)
    row.writeUInt16LE(index, ROW.index)
    row.writeUInt32LE(crc32(row.subarray(0, ROW.sum)), ROW.sum)
    this.#count++
    if (this.#count === IN_MEMORY + this.#written + WINDOW && this.#file !== null) this.#flush()
  }

  /** Null where the disk gives something else than was written: the chunk counts as unknown then, and is stored again. */
  at(row: number): Buffer | null {
    if (row < IN_MEMORY || this.#file === null) return viewOf(this.#memory, row)
    if (row >= IN_MEMORY + this.#written) return viewOf(this.#window, row - IN_MEMORY - this.#written)
    const bytes = readUpTo(this.#fd as number, this.#read, (row - IN_MEMORY) * ROW.bytes)
    const whole = bytes === ROW.bytes && crc32(this.#read.subarray(0, ROW.sum)) === this.#read.readUInt32LE(ROW.sum)
    return whole ? this.#read : null
  }

  close(): void {
    if (this.#fd !== null) closeSync(this.#fd)
    this.#fd = null
  }

  #next(): Buffer {
    if (this.#count < IN_MEMORY || this.#file === null) {
      if ((this.#count + 1) * ROW.bytes > this.#memory.length) {
        const grown = Buffer.alloc(this.#memory.length * 2)
        this.#memory.copy(grown)
        this.#memory = grown
      }
      return viewOf(this.#memory, this.#count)
    }
    if (this.#window.length === 0) this.#window = Buffer.alloc(WINDOW * ROW.bytes)
    return viewOf(this.#window, this.#count - IN_MEMORY - this.#written)
  }

  #flush(): void {
    this.#fd ??= openSync(this.#file as string, 'wx+', 0o600)
    writeWhole(this.#fd, this.#window, this.#written * ROW.bytes)
    this.#written += WINDOW
  }
}

const viewOf = (rows: Buffer, row: number): Buffer => rows.subarray(row * ROW.bytes, (row + 1) * ROW.bytes)
