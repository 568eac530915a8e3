import { damaged, MIB } from './format.ts'
import { checkPage, PAGE_BYTES, pagesFor, rowsPerPage } from './known-layout.ts'
import { readUpTo } from './positioned.ts'

/** Rows in checksummed pages of a file. In memory: a small cache, of so many pages at most. */
export class CheckedPages {
  protected readonly pages: number
  readonly #fd: number
  readonly #at: number
  readonly #rows: number
  readonly #rowBytes: number
  readonly #file: string
  readonly #cache: Buffer
  readonly #cached: Int32Array

  constructor(fd: number, at: number, rows: number, rowBytes: number, file: string, most = CACHED) {
    this.#fd = fd
    this.#at = at
    this.#rows = rows
    this.#rowBytes = rowBytes
    this.#file = file
    this.pages = pagesFor(rows, rowBytes)
    this.#cached = new Int32Array(Math.min(most, this.pages)).fill(-1)
    this.#cache = Buffer.allocUnsafe(this.#cached.length * PAGE_BYTES)
  }

  /** A view of it, valid until the next call. */
  row(n: number): Buffer {
    if (n >= this.#rows) throw damaged(this.#file, `row ${n} is wanted of ${this.#rows}`)
    const most = rowsPerPage(this.#rowBytes)
    const at = (n % most) * this.#rowBytes
    return this.page(Math.floor(n / most)).subarray(at, at + this.#rowBytes)
  }

  *rows(): Generator<Buffer> {
    for (const { page, bytes } of this.inOrder()) {
      for (let n = 0; n < this.rowsOf(page); n++) yield bytes.subarray(n * this.#rowBytes, (n + 1) * this.#rowBytes)
    }
  }

  /** Every page, checked; a view each, valid until the next. */
  protected *inOrder(): Generator<{ page: number; bytes: Buffer }> {
    const window = Buffer.allocUnsafe(PAGE_BYTES * 64)
    for (let page = 0; page < this.pages; page++) {
      const slot = (page % 64) * PAGE_BYTES
      if (slot === 0) this.#readPages(window, page, Math.min(64, this.pages - page))
      const bytes = window.subarray(slot, slot + PAGE_BYTES)
      checkPage(bytes, this.#file)
      yield { page, bytes }
    }
  }

  protected rowsOf(page: number): number {
    const most = rowsPerPage(this.#rowBytes)
    return Math.min(most, this.#rows - page * most)
  }

  protected page(page: number): Buffer {
    const slot = page % this.#cached.length
    const bytes = this.#cache.subarray(slot * PAGE_BYTES, (slot + 1) * PAGE_BYTES)
    if (this.#cached[slot] === page) return bytes
    this.#cached[slot] = -1
    this.#readPages(bytes, page, 1)
    checkPage(bytes, this.#file)
    this.#cached[slot] = page
    return bytes
  }

  #readPages(into: Buffer, page: number, count: number): void {
    const length = count * PAGE_BYTES
    if (readUpTo(this.#fd, into.subarray(0, length), this.#at + page * PAGE_BYTES) < length)
      throw damaged(this.#file, 'it ends too early')
  }
}

/** Such rows, sorted. In memory besides: the first four bytes of each page. */
export class SortedPages extends CheckedPages {
  readonly #rowBytes: number
  readonly #keyBytes: number
  readonly #firstKeys: Uint32Array

  constructor(fd: number, at: number, rows: number, rowBytes: number, keyBytes: number, file: string, most = CACHED) {
    super(fd, at, rows, rowBytes, file, most)
    this.#rowBytes = rowBytes
    this.#keyBytes = keyBytes
    this.#firstKeys = new Uint32Array(this.pages)
  }

  /** Reads and checks every page once. `onRow` gets its page and where it begins there: twenty million views would be work for the collector. */
  load(onRow: ((page: Buffer, at: number) => void) | null): void {
    for (const { page, bytes } of this.inOrder()) {
      this.#firstKeys[page] = bytes.readUInt32BE(0)
      if (onRow) for (let n = 0; n < this.rowsOf(page); n++) onRow(bytes, n * this.#rowBytes)
    }
  }

  /** A view of the row, valid until the next call; null when there is none. */
  find(key: Buffer): Buffer | null {
    const head = headOf(key, 0)
    const first = key.readUInt32BE(0)
    // the last page whose first key is not above; pages that begin with the same four bytes are tried backwards
    for (let page = this.#lastNotAbove(first); page >= 0; page--) {
      const row = this.#search(this.page(page), this.rowsOf(page), key, head)
      if (row) return row
      if (this.#firstKeys[page] !== first) return null
    }
    return null
  }

  #lastNotAbove(first: number): number {
    let low = 0
    let high = this.pages
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#firstKeys[middle] as number) <= first) low = middle + 1
      else high = middle
    }
    return low - 1
  }

  #search(page: Buffer, rows: number, key: Buffer, head: number): Buffer | null {
    let low = 0
    let high = rows
    while (low < high) {
      const middle = (low + high) >>> 1
      const at = middle * this.#rowBytes
      // numbers first: to compare buffers costs ten times as much
      const order = head - headOf(page, at) || key.compare(page, at, at + this.#keyBytes)
      if (order === 0) return page.subarray(at, at + this.#rowBytes)
      if (order > 0) low = middle + 1
      else high = middle
    }
    return null
  }
}

/** The first four bytes of a key as a number, which orders as they do. More would be no number of the processor's. */
const headOf = (bytes: Buffer, at: number): number =>
  (((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)) >>>
  0

/** Pages kept in memory, 256 KiB: enough for rows that are asked for in order, and names never come twice to a page of a long list. */
const CACHED = 64
/**
 * Of the files of trees, 4 MiB for 180,000 of them: each is asked for once, and in the order of its path, which is none here. From the kernel's cache each page would be read and
 * checked again for almost every file.
 */
export const CACHED_OF_TREES = 1024

/**
 * Says of most names that are not in the list that they aren't (a Bloom filter), in at most 4 MiB, without looking at the disk: of all but one in two hundred up to
 * three million names, and of more than half with twenty million. The others are looked up among the pages, which were read just before: 5 microseconds each.
 */
export class NameFilter {
  readonly #bits: Uint8Array
  readonly #mask: number
  /** Bits that a name sets: with less than six for each name, fewer of them let fewer others pass. */
  readonly #each: number

  constructor(rows: number) {
    let bytes = 4096
    while (bytes < rows * 1.5 && bytes < 4 * MIB) bytes *= 2
    this.#bits = new Uint8Array(bytes)
    this.#mask = bytes * 8 - 1
    this.#each = Math.min(4, Math.max(1, Math.round(((bytes * 8) / rows) * Math.LN2)))
  }

  /** The name that begins there. */
  add(names: Buffer, at = 0): void {
    for (let n = 0; n < this.#each; n++) {
      const bit = names.readUInt32LE(at + 4 + n * 4) & this.#mask
      ;(this.#bits[bit >>> 3] as number) |= 1 << (bit & 7)
    }
  }

  mayHold(name: Buffer): boolean {
    for (let n = 0; n < this.#each; n++) {
      const bit = name.readUInt32LE(4 + n * 4) & this.#mask
      if (((this.#bits[bit >>> 3] as number) & (1 << (bit & 7))) === 0) return false
    }
    return true
  }
}
