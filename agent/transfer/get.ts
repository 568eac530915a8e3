import type { IncomingHttpHeaders } from 'node:http'
import { HoldfastError } from '../../shared/errors.ts'
import { giveBack } from '../../shared/give-back.ts'
import { MAX_OBJECT_BYTES } from '../../shared/storage/target.ts'
import { type Address, requireAddress } from './address.ts'
import { type Meaning, meaningOf, Problem } from './answers.ts'
import { ObjectFiles, type Range } from './object-files.ts'
import { Patience } from './patience.ts'
import { request, type Taker } from './request.ts'
import type { Line } from './transfer.ts'

type Received = Buffer | { readonly meaning: Exclude<Meaning, 'done'>; readonly status: number; readonly code: string }

/** Addresses kept for the next range of the same object. */
const KEPT_ADDRESSES = 512

export class Getter {
  readonly #line: Line
  readonly #files: ObjectFiles
  readonly #addresses = new Map<string, Address>()

  constructor(line: Line) {
    this.#line = line
    this.#files = new ObjectFiles(line)
  }

  async get(key: string, range: Range | null, signal: AbortSignal): Promise<Buffer> {
    signal.throwIfAborted()
    const { clock, log } = this.#line.options
    const patience = new Patience(`object ${key}`, { clock, log, patienceMs: this.#line.patienceMs })
    try {
      for (;;) {
        try {
          const address = await this.#addressOf(key, signal)
          const read = await this.#files.get(key, address, range, signal)
          if (read) return read
          const received = await this.#receive(key, address, range, signal)
          if (Buffer.isBuffer(received)) return received
          if (received.meaning === 'new-address') this.#addresses.delete(key)
          await patience.afterAnswer(received.meaning, received.status, received.code, signal)
        } catch (error) {
          // a control plane that started again has another socket
          const stale =
            this.#addresses.get(key)?.localSocket !== null || (error instanceof HoldfastError && error.code === 'pin_mismatch')
          if (stale) this.#addresses.delete(key)
          await patience.afterError(error, signal)
        }
      }
    } finally {
      this.#line.totals.retries += patience.retries
    }
  }

  async #addressOf(key: string, signal: AbortSignal): Promise<Address> {
    const { clock, signGets } = this.#line.options
    const askedAtMs = clock.monotonicMs()
    const known = this.#addresses.get(key)
    if (known && askedAtMs < known.usableUntilMs) return known
    const [signed] = await signGets([key], signal)
    if (!signed) throw new HoldfastError('internal', `no address came for object ${key}`)
    const address = requireAddress(signed, 'GET', `object ${key}`, askedAtMs)
    this.#addresses.delete(key)
    this.#addresses.set(key, address)
    const [oldest] = this.#addresses.keys()
    if (this.#addresses.size > KEPT_ADDRESSES && oldest) this.#addresses.delete(oldest)
    return address
  }

  async #receive(key: string, address: Address, range: Range | null, signal: AbortSignal): Promise<Received> {
    const asked = range ? { range: `bytes=${range.offset}-${range.offset + range.length - 1}` } : {}
    let status = 0
    let body: Body | Problem | Refused = new Problem()
    const options = {
      method: 'GET',
      ...this.#line.connections.to(address),
      headers: { ...address.headers, ...asked },
      signal,
    }
    await request(address.url, options, (code, headers) => {
      status = code
      if (status === (range ? 206 : 200)) body = this.#bodyOf(headers, range, signal)
      return 'refused' in body ? null : body
    })
    return answerOf(body, status, key)
  }

  #bodyOf(headers: IncomingHttpHeaders, range: Range | null, signal: AbortSignal): Body | Refused {
    const announced = Number(headers['content-length'])
    if (!(announced >= 0 && announced <= MAX_OBJECT_BYTES)) return { refused: 'refused' }
    const start = /^bytes (\d+)-/.exec(String(headers['content-range'] ?? ''))?.[1]
    if (range && (announced !== range.length || Number(start) !== range.offset))
      return { refused: announced < range.length ? 'short' : 'refused' }
    return new Body(announced, this.#line, signal)
  }
}

/** Not read. */
interface Refused {
  readonly refused: 'short' | 'refused'
}

function answerOf(body: Body | Problem | Refused, status: number, key: string): Received {
  if (body instanceof Body) return body.whole(key)
  if ('refused' in body) return { meaning: body.refused, status, code: '' }
  const meaning = meaningOf(status, body.code)
  // another success than the one asked for: something on the way does not know ranges
  return { meaning: meaning === 'done' ? 'refused' : meaning, status, code: body.code }
}

/** An object, or a part of it, as it comes. */
class Body implements Taker {
  readonly #bytes: Buffer
  readonly #line: Line
  readonly #signal: AbortSignal
  #received = 0

  constructor(size: number, line: Line, signal: AbortSignal) {
    this.#bytes = Buffer.allocUnsafe(size)
    this.#line = line
    this.#signal = signal
  }

  take(piece: Buffer): Promise<void> | undefined {
    const { download, totals } = this.#line
    if (this.#received + piece.length > this.#bytes.length) throw new Error('more bytes than were announced')
    const { length } = piece
    piece.copy(this.#bytes, this.#received)
    this.#received += length
    totals.receivedBytes += length
    // a piece that is waited for is looked at once more by undici, which stops in its middle
    if (download.bytesPerSecond !== null) return download.take(length, this.#signal)
    giveBack(piece)
    return undefined
  }

  whole(key: string): Buffer {
    if (this.#received === this.#bytes.length) return this.#bytes
    throw new HoldfastError('target_unreachable', `object ${key}: ${this.#received} of ${this.#bytes.length} bytes came`, {
      hint: 'The connection to the store broke; it is tried again.',
    })
  }
}
