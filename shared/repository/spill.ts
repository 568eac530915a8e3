import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs'
import path from 'node:path'
import { randomBase32 } from '../ids.ts'
import { MIB } from './format.ts'

/** Of the file. What leans on thirty backups wants a block of each by turns. */
const MOST = 128 * MIB
/** Blocks of which it is remembered that they were fetched: those of some gigabytes. */
const REMEMBERED = 4096

/**
 * Sealed blocks that were fetched a second time, since what leans on many backups wants a little of a block again and again: the third time they come from a
 * file of the job's own. They lie there as they lie in the store, sealed and with their tags, so that the file tells no more than the store does, and whatever
 * becomes of it is seen when they are opened. It has no name and ends with its process. A disk that is full or fails costs fetching, and nothing else.
 */
export class Spill {
  readonly #folder: string
  readonly #most: number
  /** In the order in which they were fetched. */
  readonly #fetched = new Set<string>()
  readonly #kept = new Map<string, { readonly offset: number; readonly length: number }>()
  #file: { readonly fd: number } | 'none yet' | 'given up' = 'none yet'
  #end = 0

  constructor(folder: string, most = MOST) {
    this.#folder = folder
    this.#most = most
  }

  has(block: string): boolean {
    return this.#kept.has(block)
  }

  /** To be told of each block that was fetched and opened. */
  note(block: string, sealed: Buffer): void {
    if (this.#fetched.delete(block)) this.#keep(block, sealed)
    this.#fetched.add(block)
    const [oldest] = this.#fetched
    if (this.#fetched.size > REMEMBERED && oldest !== undefined) this.#fetched.delete(oldest)
  }

  /** Null where it is not there, or cannot be read. */
  take(block: string): Buffer | null {
    const place = this.#kept.get(block)
    if (!place || typeof this.#file === 'string') return null
    const bytes = Buffer.allocUnsafeSlow(place.length)
    const { fd } = this.#file
    const whole = this.#tried(() => readSync(fd, bytes, 0, place.length, place.offset) === place.length)
    return whole ? bytes : null
  }

  forget(block: string): void {
    this.#kept.delete(block)
  }

  close(): void {
    if (typeof this.#file !== 'string') closeSync(this.#file.fd)
    this.#file = 'given up'
    this.#kept.clear()
  }

  #keep(block: string, sealed: Buffer): void {
    const { length } = sealed
    if (length > this.#most || this.#file === 'given up' || this.#kept.has(block)) return
    const offset = this.#end + length > this.#most ? 0 : this.#end
    for (const [other, place] of this.#kept)
      if (place.offset < offset + length && offset < place.offset + place.length) this.#kept.delete(other)
    if (!this.#tried(() => writeSync(this.#opened(), sealed, 0, length, offset) === length)) return
    this.#kept.set(block, { offset, length })
    this.#end = offset + length
  }

  #opened(): number {
    if (typeof this.#file === 'string') {
      const file = path.join(this.#folder, `spill-${randomBase32(10)}`)
      this.#file = { fd: openSync(file, 'wx+', 0o600) }
      unlinkSync(file)
    }
    return this.#file.fd
  }

  /** A disk that does not do it, or not all of it, is not asked again. */
  #tried(work: () => boolean): boolean {
    try {
      if (work()) return true
    } catch (error) {
      if (!(error instanceof Error && 'syscall' in error)) throw error
    }
    this.close()
    return false
  }
}
