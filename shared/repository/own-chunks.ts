import { closeSync, openSync } from 'node:fs'
import { crc32 } from 'node:zlib'
import { giveBack } from '../give-back.ts'
import { NAME_BYTES } from './format.ts'
import { readUpTo, writeWhole } from './positioned.ts'

/** Where a chunk lies: the number of its block in Places, and its position in it. */
export interface ChunkPlace {
  readonly ref: number
  readonly index: number
}

/**
 * The chunks that this backup itself has stored: a hash table in a typed array. Bounded: past the cap, new chunks are not
 * entered, so that one that comes again is stored again. What earlier attempts stored has EarlierChunks for the rest of it.
 *
 * Names and places beyond the first 16,384 lie in a file, where there is one, and memory has a slot of four bytes for each, seven of eight in use: 5 MB for a million.
 */
export class OwnChunks {
  readonly #cap: number
  readonly #rows: Rows
  #count = 0
  /** How many rows the slots have room for. */
  #room = FIRST_ROOM
  #slots = slotsFor(FIRST_ROOM)

  constructor(cap = 1_000_000, file: string | null = null) {
    if (cap > MOST) throw new RangeError(`${cap} chunks of its own`)
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
    if (this.#count === this.#room) this.#grow()
    this.#enter(name, 0, this.#count++)
    this.#rows.push(name, ref, index)
  }

  close(): void {
    this.#rows.close()
  }

  /** A view of its row, valid until the next call. Names are compared whole. */
  #find(name: Buffer): Buffer | null {
    const slots = this.#slots
    const tag = tagOf(name, 0)
    for (let slot = this.#firstSlot(name, 0), held = 0; (held = slots[slot] as number) !== EMPTY; slot = after(slot, slots)) {
      if (held >>> ROW_BITS !== tag) continue
      const row = this.#rows.at((held & MOST) - 1)
      if (row && name.compare(row, 0, NAME_BYTES) === 0) return row
    }
    return null
  }

  /** The row of the name that begins there. */
  #enter(names: Buffer, at: number, row: number): void {
    const slots = this.#slots
    let slot = this.#firstSlot(names, at)
    while (slots[slot] !== EMPTY) slot = after(slot, slots)
    slots[slot] = (tagOf(names, at) << ROW_BITS) | (row + 1)
  }

  /** By the first four bytes as a share of all that they can be: a power of two of slots would be too many or too few. */
  #firstSlot(names: Buffer, at: number): number {
    return Math.floor((names.readUInt32LE(at) / 2 ** 32) * this.#slots.length)
  }

  /** Every name is entered anew, out of the file too, so that the smaller table need not be in memory beside the larger one. */
  #grow(): void {
    giveBack(Buffer.from(this.#slots.buffer))
    this.#room = Math.min(this.#room * 2, this.#cap)
    this.#slots = slotsFor(this.#room)
    this.#rows.each((rows, at, row) => this.#enter(rows, at, row))
  }
}

/** A slot is a row's number and one, and above them bits of its name, so that few rows are looked at in vain. */
const ROW_BITS = 20
const MOST = 2 ** ROW_BITS - 1
const EMPTY = 0
const FIRST_ROOM = 4096

/** An eighth stays empty: a name that is not there is known by that after about thirty slots, which lie beside each other. */
const slotsFor = (rows: number): Uint32Array<ArrayBuffer> => new Uint32Array(Math.ceil((rows * 8) / 7))
const after = (slot: number, slots: Uint32Array): number => (slot + 1 === slots.length ? 0 : slot + 1)
/** Of bytes that have no part in where the slots begin. */
const tagOf = (names: Buffer, at: number): number => names.readUInt16LE(at + 4) & 0xfff

const ROW = { ref: NAME_BYTES, index: NAME_BYTES + 4, sum: NAME_BYTES + 6, bytes: NAME_BYTES + 10 } as const
const IN_MEMORY = 16_384
/** Rows that are written at a time. */
const WINDOW = 1024

/** Rows by number: the first in memory, the others in a file, each with a checksum. */
class Rows {
  readonly #file: string | null
  #fd: number | null = null
  #memory = Buffer.alloc(1024 * ROW.bytes)
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

  /** Every row in order: where it begins, and its number. What the disk gives otherwise than was written is not noticed here, but where the row is looked at. */
  each(onRow: (rows: Buffer, at: number, row: number) => void): void {
    const inMemory = this.#file === null ? this.#count : Math.min(this.#count, IN_MEMORY)
    const some = (rows: Buffer, count: number, first: number) => {
      for (let n = 0; n < count; n++) onRow(rows, n * ROW.bytes, first + n)
    }
    some(this.#memory, inMemory, 0)
    const read = Buffer.alloc(this.#written > 0 ? WINDOW * ROW.bytes : 0)
    for (let row = 0; row < this.#written; row += WINDOW) {
      const bytes = readUpTo(this.#fd as number, read, row * ROW.bytes)
      some(read, Math.floor(bytes / ROW.bytes), IN_MEMORY + row)
    }
    giveBack(read)
    some(this.#window, this.#count - inMemory - this.#written, IN_MEMORY + this.#written)
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
        giveBack(this.#memory)
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
