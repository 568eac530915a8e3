import type { FileHandle } from 'node:fs/promises'
import type { Pinned } from './messages.ts'

const LOG_HEADER_BYTES = 32
const FRAME_HEADER_BYTES = 24
const SALT_AT = 16
const BLOCK_FRAMES = 256

/**
 * Pages of a snapshot that are in the write-ahead log: the last frame of each page among the frames of the snapshot
 * (walformat.html). While a reader holds it, no checkpoint copies later frames into the database, and the log is not
 * begun anew - unless all of the snapshot's frames are in the database already. Then the salt in the log's header changes
 * before any frame does, which is looked at after each read: from there on, every page is right in the database itself.
 */
export class WalPages {
  readonly #log: FileHandle
  readonly #salt: Buffer
  readonly #pageSize: number
  readonly #frames: Map<number, number>

  private constructor(log: FileHandle, salt: Buffer, pageSize: number, frames: Map<number, number>) {
    this.#log = log
    this.#salt = salt
    this.#pageSize = pageSize
    this.#frames = frames
  }

  static async open(log: FileHandle, pinned: Pinned & { wal: NonNullable<Pinned['wal']> }): Promise<WalPages> {
    const salt = Buffer.from(pinned.wal.salt, 'hex')
    const pages = new WalPages(log, salt, pinned.pageSize, new Map())
    const stride = FRAME_HEADER_BYTES + pinned.pageSize
    const block = Buffer.allocUnsafeSlow(stride * BLOCK_FRAMES)
    for (let frame = 0; frame < pinned.wal.frames; ) {
      const count = Math.min(BLOCK_FRAMES, pinned.wal.frames - frame)
      const { bytesRead } = await log.read(block, 0, stride * count, LOG_HEADER_BYTES + stride * frame)
      const whole = Math.floor(bytesRead / stride)
      for (let i = 0; i < whole; i++) pages.#frames.set(block.readUInt32BE(i * stride), frame + i)
      frame += whole
      // cut off: begun anew, like a changed salt
      if (whole === 0) pages.#frames.clear()
      if (whole === 0 || !(await pages.isStill())) break
    }
    return pages
  }

  /** True while the log is the one of the snapshot; else it is forgotten. */
  async isStill(): Promise<boolean> {
    if (this.#frames.size === 0) return true
    const { bytesRead, buffer } = await this.#log.read(Buffer.alloc(8), 0, 8, SALT_AT)
    if (bytesRead === 8 && buffer.equals(this.#salt)) return true
    this.#frames.clear()
    return false
  }

  /** Puts pages from `first` (counted from 1) into `target`, where they are in the log. False when it has to be done again without. */
  async overlay(target: Buffer, first: number): Promise<boolean> {
    if (this.#frames.size === 0) return true
    const stride = FRAME_HEADER_BYTES + this.#pageSize
    for (let at = 0; at < target.length; at += this.#pageSize) {
      const frame = this.#frames.get(first + at / this.#pageSize)
      if (frame === undefined) continue
      const position = LOG_HEADER_BYTES + stride * frame + FRAME_HEADER_BYTES
      const { bytesRead } = await this.#log.read(target, at, this.#pageSize, position)
      if (bytesRead < this.#pageSize) this.#frames.clear()
      if (bytesRead < this.#pageSize) return false
    }
    return this.isStill()
  }
}
