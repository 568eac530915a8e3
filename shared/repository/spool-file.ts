import { readSync } from 'node:fs'
import { onOwnDisk } from '../own-disk.ts'
import { KIB } from './format.ts'
import { writeWhole } from './positioned.ts'

/** Small records on their way into a file and out of one: a system call for each costs more than all else that is done with it. */

const WINDOW = 64 * KIB

/** Writes one record behind the other, many at a time. */
export class FileAppender {
  readonly #fd: number
  readonly #window = Buffer.allocUnsafe(WINDOW)
  #fill = 0
  #written = 0

  constructor(fd: number) {
    this.#fd = fd
  }

  /** Where the next record will lie. */
  get end(): number {
    return this.#written + this.#fill
  }

  add(bytes: Buffer): void {
    if (this.#fill + bytes.length > WINDOW) this.flush()
    if (bytes.length > WINDOW) return this.#write(bytes)
    bytes.copy(this.#window, this.#fill)
    this.#fill += bytes.length
  }

  flush(): void {
    const bytes = this.#window.subarray(0, this.#fill)
    this.#fill = 0
    this.#write(bytes)
  }

  #write(bytes: Buffer): void {
    writeWhole(this.#fd, bytes, this.#written)
    this.#written += bytes.length
  }
}

/** Gives views of a file that does not change, which are mostly asked for in the order in which they lie there. */
export class FileWindow {
  readonly #fd: number
  #window = Buffer.alloc(0)
  #at = 0
  #length = 0

  constructor(fd: number) {
    this.#fd = fd
  }

  /** Valid until the next call. Null when the file ends before. */
  view(length: number, at: number): Buffer | null {
    const from = this.find(length, at)
    return from < 0 ? null : this.#window.subarray(from, from + length)
  }

  /** Where that is in `bytes`; below zero when the file ends before. Both are right until the next call. */
  find(length: number, at: number): number {
    if (at < this.#at || at + length > this.#at + this.#length) this.#load(length, at)
    const from = at - this.#at
    return from + length > this.#length ? -1 : from
  }

  get bytes(): Buffer {
    return this.#window
  }

  #load(length: number, at: number): void {
    const wanted = Math.max(length, WINDOW)
    if (this.#window.length < wanted) this.#window = Buffer.allocUnsafeSlow(wanted)
    this.#at = at
    this.#length = 0
    while (this.#length < length) {
      const from = this.#length
      const step = onOwnDisk(this.#fd, () => readSync(this.#fd, this.#window, from, wanted - from, at + from))
      if (step === 0) return
      this.#length += step
    }
  }
}
