import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { Readable, Writable } from 'node:stream'
import { alignedPieces, DirectFile } from '../../direct-file.ts'
import { HoldfastError } from '../../errors.ts'
import { giveBack } from '../../give-back.ts'
import type { Placement } from './place.ts'

/** Writes a new file and syncs it. Throws `object_damaged` when the body has not the size and hash that it should have. Returns the file's mtime. */
export async function writeChecked(file: string, key: string, body: AsyncIterable<Buffer>, to: Placement): Promise<bigint> {
  const handle = await open(file, 'wx', 0o600)
  try {
    const direct = await DirectFile.over(handle, to.size)
    const pieces = new Pieces(direct, key, to)
    try {
      await feed(body, pieces, to.signal)
      await pieces.end()
    } finally {
      await pieces.close()
      await direct.close()
    }
    await handle.sync()
    return (await handle.stat({ bigint: true })).mtimeNs
  } finally {
    await handle.close()
  }
}

/**
 * Gathers a body, which comes a few KiB at a time, in pieces that are written and hashed: while one is written the next is
 * filled.
 */
class Pieces {
  readonly #file: DirectFile
  readonly #key: string
  readonly #to: Placement
  readonly #hash = createHash('sha256')
  #piece: Buffer
  #other: Buffer
  #fill = 0
  #writing: Promise<void> = Promise.resolve()
  #written = 0
  #closed = false

  constructor(file: DirectFile, key: string, to: Placement) {
    this.#file = file
    this.#key = key
    this.#to = to
    this.#piece = alignedPieces.take(to.size)
    this.#other = alignedPieces.take(to.size)
  }

  /** Takes as much as there is room for at once: the number of bytes. */
  take(bytes: Buffer, from: number): number {
    // its memory may be another object's by now
    if (this.#closed) throw givenUp(this.#key)
    if (this.#written + this.#fill + bytes.length - from > this.#to.size) throw mismatch(this.#key)
    const taken = bytes.copy(this.#piece, this.#fill, from)
    this.#fill += taken
    return taken
  }

  get isFull(): boolean {
    return this.#fill === this.#piece.length
  }

  /** Hands the full piece on; settles when there is room for the next. */
  async next(): Promise<void> {
    const [piece, fill, position] = [this.#piece, this.#fill, this.#written]
    // one write at a time: so the other piece is free when this one begins
    await this.#writing
    if (this.#closed) throw givenUp(this.#key)
    this.#writing = this.#write(piece.subarray(0, fill), position)
    // told by whoever waits for it next
    this.#writing.catch(() => undefined)
    this.#piece = this.#other
    this.#other = piece
    this.#written += fill
    this.#fill = 0
  }

  /** Hashed once it is written: were its memory changed before then, by whatever mistake, it would be found. */
  async #write(bytes: Buffer, position: number): Promise<void> {
    await this.#file.write(bytes, position)
    this.#hash.update(bytes)
  }

  async end(): Promise<void> {
    if (this.#fill > 0) await this.next()
    await this.#writing
    if (this.#written !== this.#to.size || !this.#hash.digest().equals(this.#to.sha256)) throw mismatch(this.#key)
  }

  /** Memory that is still written from is not anybody else's yet. */
  async close(): Promise<void> {
    this.#closed = true
    // `end` has told it, or was never reached because something else failed
    await this.#writing.catch(() => undefined)
    alignedPieces.give(this.#piece)
    alignedPieces.give(this.#other)
  }
}

async function feed(body: AsyncIterable<Buffer>, pieces: Pieces, signal: AbortSignal | undefined): Promise<void> {
  if (body instanceof Readable) return await feedFromStream(body, pieces, signal)
  for await (const bytes of body) {
    signal?.throwIfAborted()
    for (let at = 0; at < bytes.length; ) {
      at += pieces.take(bytes, at)
      if (pieces.isFull) await pieces.next()
    }
  }
}

/** As a stream's sink: a promise for each of the few KiB that a connection gives at a time costs more than what is done with them. */
class Sink extends Writable {
  readonly #pieces: Pieces

  constructor(pieces: Pieces) {
    super({ highWaterMark: 64 * 1024 })
    this.#pieces = pieces
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    try {
      const at = this.#pieces.take(bytes, 0)
      if (this.#pieces.isFull) return void this.#rest(bytes, at).then(() => done(), done)
      giveBack(bytes)
      done()
    } catch (error) {
      done(error as Error)
    }
  }

  async #rest(bytes: Buffer, from: number): Promise<void> {
    await this.#pieces.next()
    for (let at = from; at < bytes.length; ) {
      at += this.#pieces.take(bytes, at)
      if (this.#pieces.isFull) await this.#pieces.next()
    }
    giveBack(bytes)
  }
}

async function feedFromStream(body: Readable, pieces: Pieces, signal: AbortSignal | undefined): Promise<void> {
  const sink = new Sink(pieces)
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const onAbort = () => reject(signal?.reason)
  // it says so once, and that may have been before anybody listened
  const onClose = () => (body.readableEnded ? undefined : reject(body.errored ?? cutOff()))
  body.once('error', reject).once('close', onClose)
  sink.once('error', reject).once('finish', resolve)
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    signal?.throwIfAborted()
    if (body.destroyed) onClose()
    else body.pipe(sink)
    await promise
  } finally {
    signal?.removeEventListener('abort', onAbort)
    sink.on('error', () => undefined).destroy()
    // what fails from now on is of no interest; who sent it gets an answer only once nothing of it is left in the connection
    body.off('close', onClose).on('error', () => undefined)
    body.unpipe(sink).resume()
  }
}

const givenUp = (key: string) => new HoldfastError('job_cancelled', `object ${key} was given up`)
const cutOff = () => new HoldfastError('target_unreachable', 'the connection ended before the object did')

function mismatch(key: string): HoldfastError {
  return new HoldfastError('object_damaged', `the body sent for object ${key} does not match its size and SHA-256`, {
    hint: 'It was changed on its way. Send it again; if it happens again, test the memory and the network of the sender.',
    retry: true,
  })
}
