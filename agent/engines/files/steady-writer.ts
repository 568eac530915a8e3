import { ftruncateSync, write as writeCallback, writeSync } from 'node:fs'
import { promisify } from 'node:util'
import type { Extent } from '../../../shared/artifacts.ts'
import { beginWriteOut, canWriteOut, endWriteOut } from './posix.ts'

const writeAt = promisify(writeCallback)
const SYNC_BYTES = 128 * 1024
/** Goes to the disk as one. */
const PART = 8 * 1024 * 1024
const PAGE = 4096
/** Smaller files stay in the disk cache: who restored them may well look at them at once. */
const LARGE = 4 * PART

interface Part {
  readonly offset: number
  readonly length: number
}

/** The way of a part to the disk. */
export interface WriteOut {
  begin(fd: number, offset: number, length: number): Promise<void>
  end(fd: number, offset: number, length: number): Promise<void>
}

const KERNEL: WriteOut = { begin: beginWriteOut, end: endWriteOut }

/**
 * Writes a new file from its beginning to its end, each extent while the next one is made. A large file goes to its disk part by part meanwhile, and
 * out of the disk cache: it would push out there what the programs of this host work with, pages used again cost a tenth of fresh ones, and
 * the disk is not left idle until everything is synced at the end.
 *
 * What failed is told by the next call, by `end` at the latest. The file is to be closed after `settle` alone.
 */
export class SteadyWriter {
  readonly #fd: number
  readonly #disk: WriteOut | null
  /** Where the last extent ends that was begun. */
  #end = 0
  #writing: Promise<void> = Promise.resolve()
  /** Before here everything is on the disk or on its way. */
  #outEnd = 0
  #onItsWay: Part | null = null
  #writingOut: Promise<void> = Promise.resolve()

  constructor(fd: number, size: number, disk = KERNEL) {
    this.#fd = fd
    this.#disk = size >= LARGE && canWriteOut(fd) ? disk : null
  }

  /** Resolves when the extent before this one is written. This one stays in use until the next call resolves. */
  async write({ bytes, offset }: Extent): Promise<void> {
    await this.#writing
    if (this.#disk && this.#end - this.#outEnd >= PART) await this.#writeOut(this.#disk)
    this.#end = offset + bytes.length
    if (bytes.length <= SYNC_BYTES) writeNow(this.#fd, bytes, offset)
    else this.#writing = later(write(this.#fd, bytes, offset))
  }

  /** Everything is written, and the file has this size. */
  async end(size: number): Promise<void> {
    await this.#writing
    await this.#writingOut
    if (this.#end < size) ftruncateSync(this.#fd, size)
  }

  /** Nothing is under way any more, whether it was done or failed. Never throws. */
  async settle(): Promise<void> {
    await Promise.allSettled([this.#writing, this.#writingOut])
  }

  /** Begins the next part once the one before the last is on the disk: never more than three of them wait for it. */
  async #writeOut(disk: WriteOut): Promise<void> {
    await this.#writingOut
    const [fd, before] = [this.#fd, this.#onItsWay]
    const part = { offset: this.#outEnd, length: this.#end - (this.#end % PAGE) - this.#outEnd }
    this.#outEnd += part.length
    this.#onItsWay = part
    this.#writingOut = later(writeOut(disk, fd, part, before))
  }
}

/** Whoever awaits it is told that it failed; until then that is not unhandled. */
function later(work: Promise<void>): Promise<void> {
  work.catch(() => undefined)
  return work
}

async function writeOut(disk: WriteOut, fd: number, part: Part, before: Part | null): Promise<void> {
  await disk.begin(fd, part.offset, part.length)
  if (before) await disk.end(fd, before.offset, before.length)
}

function writeNow(fd: number, bytes: Buffer, offset: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, offset + done)
}

async function write(fd: number, bytes: Buffer, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length; )
    done += (await writeAt(fd, bytes, done, bytes.length - done, offset + done)).bytesWritten
}
