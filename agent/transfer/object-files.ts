import { OBJECT_FILE_TYPE, type ObjectFile } from '../../shared/storage/local/object-file.ts'
import { MAX_OBJECT_BYTES } from '../../shared/storage/target.ts'
import type { Address } from './address.ts'
import { SILENCE_MS } from './connections.ts'
import { request, type Taker, type Way } from './request.ts'
import { openObjectFile, parseObjectFile } from './told-file.ts'
import type { Line } from './transfer.ts'

/** A part of an object. */
export interface Range {
  readonly offset: number
  readonly length: number
}

/** Pieces of a rate that is limited. */
const PIECE_BYTES = 64 * 1024
/** Of the answer, a path and two numbers. */
const ANSWER_BYTES = 16 * 1024

/**
 * Objects of a local target whose server is on this host and of this user, read from their files. The server is asked where each lies, with the address that was signed for it; the bytes then
 * go through neither its process nor a socket, which is a fifth of a restore's processor time.
 */
export class ObjectFiles {
  readonly #line: Line
  /** Null: of this address nothing more is tried. */
  readonly #told = new WeakMap<Address, Promise<ObjectFile | null>>()

  constructor(line: Line) {
    this.#line = line
  }

  /** Null where it has to be asked of the server, which also says what is wrong with an object: whatever fails here is no error yet. */
  async get(key: string, address: Address, range: Range | null, signal: AbortSignal): Promise<Buffer | null> {
    const way = this.#line.connections.to(address)
    if (!way.onThisHost) return null
    try {
      let told = this.#told.get(address)
      if (!told) this.#told.set(address, (told = this.#ask(key, address, way, signal)))
      const file = await told
      return file && (await this.#read(key, file, range, signal))
    } catch (error) {
      this.#told.set(address, Promise.resolve(null))
      this.#line.options.log.debug({ object: key, err: error }, 'an object is asked of the server, its file could not be read')
      return null
    }
  }

  async #ask(key: string, address: Address, way: Way, signal: AbortSignal): Promise<ObjectFile | null> {
    const answer = new Answer()
    const headers = { ...address.headers, accept: OBJECT_FILE_TYPE }
    await request(address.url, { method: 'GET', ...way, headers, signal }, (status, { 'content-type': type }) =>
      status === 200 && type === OBJECT_FILE_TYPE ? answer : null,
    )
    return answer.text === '' ? null : parseObjectFile(answer.text, key)
  }

  async #read(key: string, file: ObjectFile, range: Range | null, signal: AbortSignal): Promise<Buffer> {
    const { download, totals } = this.#line
    const opening = openObjectFile(key, file)
    let last: Promise<unknown> = opening
    try {
      const object = await this.#withinSilence(opening)
      const { offset, length } = range ?? { offset: 0, length: object.size }
      if (length > MAX_OBJECT_BYTES) throw new Error('no object is so long')
      const bytes = Buffer.allocUnsafe(length)
      for (let done = 0; done < length; ) {
        signal.throwIfAborted()
        const limited = download.bytesPerSecond !== null
        const piece = bytes.subarray(done, limited ? done + PIECE_BYTES : length)
        last = object.fill(piece, offset + done)
        await this.#withinSilence(last)
        done += piece.length
        totals.receivedBytes += piece.length
        if (limited) await download.take(piece.length, signal)
      }
      return bytes
    } finally {
      // of a disk that does not answer a read is still under way, into memory that nobody uses any more
      const close = async () => (await opening).close()
      last.then(close, close).catch(() => undefined)
    }
  }

  /** A file server that is away keeps who reads from it waiting for ever, and the object server's connections for no longer than this. */
  async #withinSilence<T>(reading: Promise<T>): Promise<T> {
    const done = new AbortController()
    const silence = this.#line.options.clock.sleep(SILENCE_MS, done.signal).then((): never => {
      throw new Error('its disk does not answer')
    })
    silence.catch(() => undefined)
    try {
      return await Promise.race([reading, silence])
    } finally {
      done.abort()
    }
  }
}

class Answer implements Taker {
  text = ''

  take(piece: Buffer): 'enough' | undefined {
    this.text += piece.toString('utf8')
    return this.text.length > ANSWER_BYTES ? 'enough' : undefined
  }
}
