import { closeSync, openSync } from 'node:fs'
import path from 'node:path'
import type { Directory } from './directory.ts'
import { NAME_BYTES } from './format.ts'
import { type ChunkPlace, OwnChunks } from './own-chunks.ts'
import { readWhole, writeWhole } from './positioned.ts'

/** Names of blocks that were met lately: each of two generations holds so many. */
const LATELY = 65_536

/**
 * The chunks of earlier attempts beyond those that fit into OwnChunks: a terabyte has sixteen million, and a failed backup of it must not be sent again. A
 * source is read again in about the order in which it was read before, so memory holds the first chunk of each block alone (30 bytes for a block of 1 MiB);
 * where that comes again, the other names of its block are read from a file and count as known. A chunk that comes without its block's first one is
 * stored again.
 */
export class EarlierChunks {
  readonly #file: string
  #fd: number | null = null
  #end = 0
  #count = 0
  #slots = new Int32Array(4096).fill(EMPTY)
  /** Of the first chunk's name. */
  #prefix = new Uint32Array(2048)
  #at = new Float64Array(2048)
  #ref = new Uint32Array(2048)
  #chunks = new Uint16Array(2048)
  #lately = new OwnChunks(LATELY)
  #before = new OwnChunks(LATELY)

  constructor(scratch: string) {
    this.#file = path.join(scratch, 'earlier')
  }

  /** `refs`: the number of each block that it is to be known by, or -1. */
  addPack(directory: Directory, refs: Int32Array): void {
    const { names } = directory
    this.#fd ??= openSync(this.#file, 'wx+', 0o600)
    writeWhole(this.#fd, names, this.#end)
    let at = this.#end
    for (let block = 0; block < directory.blocks; block++) {
      const chunks = directory.chunksOf(block)
      if ((refs[block] as number) >= 0) this.#add(directory.chunkName(block, 0), at, refs[block] as number, chunks)
      at += chunks * NAME_BYTES
    }
    this.#end = at
  }

  get(name: Buffer): ChunkPlace | null {
    const lately = this.#lately.get(name) ?? this.#before.get(name)
    if (lately || this.#count === 0) return lately
    const prefix = name.readUInt32LE(0)
    for (let slot = this.#slotOf(prefix); this.#slots[slot] !== EMPTY; slot = (slot + 1) & (this.#slots.length - 1)) {
      const row = this.#slots[slot] as number
      if (this.#prefix[row] === prefix && this.#meet(row, name)) return { ref: this.#ref[row] as number, index: 0 }
    }
    return null
  }

  close(): void {
    if (this.#fd !== null) closeSync(this.#fd)
    this.#fd = null
  }

  #add(first: Buffer, at: number, ref: number, chunks: number): void {
    if (this.#count === this.#ref.length) this.#grow()
    const row = this.#count++
    this.#prefix[row] = first.readUInt32LE(0)
    this.#at[row] = at
    this.#ref[row] = ref
    this.#chunks[row] = chunks
    this.#enter(row)
  }

  /** The names of a block that begins with this one are known from now on; false where it begins with another. */
  #meet(row: number, first: Buffer): boolean {
    const chunks = this.#chunks[row] as number
    const names = Buffer.allocUnsafe(chunks * NAME_BYTES)
    readWhole(this.#fd as number, names, this.#at[row] as number, 'the file of the names of earlier attempts')
    if (first.compare(names, 0, NAME_BYTES) !== 0) return false
    if (this.#lately.count + chunks > LATELY) {
      this.#before = this.#lately
      this.#lately = new OwnChunks(LATELY)
    }
    const ref = this.#ref[row] as number
    for (let n = 0; n < chunks; n++) this.#lately.add(names.subarray(n * NAME_BYTES, (n + 1) * NAME_BYTES), ref, n)
    return true
  }

  #slotOf(prefix: number): number {
    return prefix & (this.#slots.length - 1)
  }

  #enter(row: number): void {
    let slot = this.#slotOf(this.#prefix[row] as number)
    while (this.#slots[slot] !== EMPTY) slot = (slot + 1) & (this.#slots.length - 1)
    this.#slots[slot] = row
  }

  #grow(): void {
    const rows = this.#ref.length * 2
    this.#prefix = enlarged(this.#prefix, new Uint32Array(rows))
    this.#at = enlarged(this.#at, new Float64Array(rows))
    this.#ref = enlarged(this.#ref, new Uint32Array(rows))
    this.#chunks = enlarged(this.#chunks, new Uint16Array(rows))
    this.#slots = new Int32Array(rows * 2).fill(EMPTY)
    for (let row = 0; row < this.#count; row++) this.#enter(row)
  }
}

const EMPTY = -1

function enlarged<T extends Uint32Array | Uint16Array | Float64Array>(from: T, to: T): T {
  to.set(from)
  return to
}
