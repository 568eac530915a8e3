import { closeSync, openSync } from 'node:fs'
import { readWhole, writeWhole } from './positioned.ts'

/**
 * Rows of one size on their way to being sorted by their first bytes, which are spread evenly (hashes): written to a file in
 * buckets by their first byte, sorted a bucket at a time. So a table of a terabyte's chunks is sorted in a few megabytes.
 */
export class BucketSpool {
  #fd: number
  readonly #rowBytes: number
  readonly #keyBytes: number
  readonly #buckets: Bucket[]
  #pieces = 0

  constructor(file: string, rowBytes: number, keyBytes: number) {
    this.#fd = openSync(file, 'wx+', 0o600)
    this.#rowBytes = rowBytes
    this.#keyBytes = keyBytes
    this.#buckets = Array.from({ length: BUCKETS }, () => ({ buffer: null, fill: 0, pieces: [], rows: 0 }))
  }

  /** A view into which the caller writes one row at once, its key included. `firstByte` is the key's. */
  add(firstByte: number, write: (row: Buffer) => void): void {
    const bucket = this.#buckets[firstByte >> (8 - BUCKET_BITS)] as Bucket
    if (bucket.fill === (bucket.buffer?.length ?? 0)) this.#grow(bucket)
    const buffer = bucket.buffer as Buffer
    write(buffer.subarray(bucket.fill, bucket.fill + this.#rowBytes))
    bucket.fill += this.#rowBytes
    bucket.rows++
    if (bucket.fill === this.#rowBytes * ROWS_IN_MEMORY) this.#flush(bucket)
  }

  /** Each bucket's rows in rising order of their keys; of rows with the same key only the one added first. */
  *sorted(keep: (row: Buffer) => boolean): Generator<Buffer> {
    // the same memory for every bucket: left to the collector, that of one after the other would pile up
    const most = this.#buckets.reduce((rows, bucket) => Math.max(rows, bucket.rows), 0)
    if (most > PLACES) throw new RangeError(`${most} rows in a bucket`)
    const memory = Buffer.allocUnsafe(most * this.#rowBytes)
    const ranks = new Float64Array(most)
    for (const bucket of this.#buckets) {
      const rows = this.#load(bucket, memory)
      const key = this.#keyBytes
      let before = -1
      for (const at of this.#order(rows, ranks, keep)) {
        if (before >= 0 && rows.compare(rows, at, at + key, before, before + key) === 0) continue
        before = at
        yield rows.subarray(at, at + this.#rowBytes)
      }
    }
  }

  /**
   * Where the rows begin, in rising order of their keys, then as they were added. Sorted as numbers that are made of a key's first bits and the row's
   * place: to compare keys with each other costs ten times as much. Where those bits are the same, the keys decide.
   */
  #order(rows: Buffer, ranks: Float64Array, keep: (row: Buffer) => boolean): Float64Array {
    const length = this.#rowBytes
    let kept = 0
    for (let at = 0; at < rows.length; at += length) {
      if (keep(rows.subarray(at, at + length))) ranks[kept++] = firstBits(rows, at) * PLACES + at / length
    }
    const order = ranks.subarray(0, kept).sort()
    for (let from = 0, to = 0; from < kept; from = to) {
      const bits = bitsOf(order[from] as number)
      while (to < kept && bitsOf(order[to] as number) === bits) order[to] = ((order[to++] as number) % PLACES) * length
      if (to - from > 1) order.subarray(from, to).sort((a, b) => this.#compare(rows, a, b) || a - b)
    }
    return order
  }

  #compare(rows: Buffer, a: number, b: number): number {
    return rows.compare(rows, b, b + this.#keyBytes, a, a + this.#keyBytes)
  }

  close(): void {
    closeSync(this.#fd)
    // a late row must not go to whatever file has this number next
    this.#fd = CLOSED
  }

  /** Small at first: most backups are. */
  #grow(bucket: Bucket): void {
    const rows = Math.min(ROWS_IN_MEMORY, Math.max(16, (bucket.fill / this.#rowBytes) * 4))
    const grown = Buffer.allocUnsafe(this.#rowBytes * rows)
    bucket.buffer?.copy(grown, 0, 0, bucket.fill)
    bucket.buffer = grown
  }

  #flush(bucket: Bucket): void {
    if (!bucket.buffer) return
    writeWhole(this.#fd, bucket.buffer.subarray(0, bucket.fill), this.#pieces * bucket.fill)
    bucket.pieces.push(this.#pieces++)
    bucket.fill = 0
  }

  #load(bucket: Bucket, memory: Buffer): Buffer {
    const rows = memory.subarray(0, bucket.rows * this.#rowBytes)
    const length = ROWS_IN_MEMORY * this.#rowBytes
    let at = 0
    for (const piece of bucket.pieces) {
      readWhole(this.#fd, rows.subarray(at, at + length), piece * length, 'the spool of the list of known chunks')
      at += length
    }
    if (bucket.buffer) bucket.buffer.copy(rows, at, 0, bucket.fill)
    bucket.buffer = null
    return rows
  }
}

interface Bucket {
  buffer: Buffer | null
  fill: number
  /** Numbers of the full pieces that lie in the file, all of one length. */
  pieces: number[]
  rows: number
}

const CLOSED = -1
const BUCKET_BITS = 6
const BUCKETS = 1 << BUCKET_BITS
/** Of a bucket. All together 700 KB of a list of chunks, which one gigabyte fills. */
const ROWS_IN_MEMORY = 256
/** Rows of a bucket at most. */
const PLACES = 2 ** 24
const NOT_OF_BUCKET = 2 ** (32 - BUCKET_BITS) - 1

/** Of a key, the 29 bits behind those that the rows of a bucket have in common: with a row's place they are what a number holds. */
const firstBits = (rows: Buffer, at: number): number =>
  (rows.readUInt32BE(at) & NOT_OF_BUCKET) * 8 + ((rows[at + 4] as number) >> 5)
const bitsOf = (rank: number): number => Math.floor(rank / PLACES)
