import type { Dispatcher } from 'undici'
import { HoldfastError } from '../../shared/errors.ts'
import { giveBack } from '../../shared/give-back.ts'
import { MAX_OBJECT_BYTES } from '../../shared/storage/target.ts'
import { type Address, requireAddress } from './address.ts'
import { discard, type Meaning, meaningOf, problemCode } from './answers.ts'
import { Patience } from './patience.ts'
import { request } from './request.ts'
import type { Line } from './transfer.ts'

interface Range {
  readonly offset: number
  readonly length: number
}

type Received = Buffer | { readonly meaning: Exclude<Meaning, 'done'>; readonly status: number; readonly code: string }

/** Addresses kept for the next range of the same object. */
const KEPT_ADDRESSES = 512

export class Getter {
  readonly #line: Line
  readonly #addresses = new Map<string, Address>()

  constructor(line: Line) {
    this.#line = line
  }

  async get(key: string, range: Range | null, signal: AbortSignal): Promise<Buffer> {
    signal.throwIfAborted()
    const { clock, log } = this.#line.options
    const patience = new Patience(`object ${key}`, { clock, log, patienceMs: this.#line.patienceMs })
    try {
      for (;;) {
        try {
          const received = await this.#receive(key, await this.#addressOf(key, signal), range, signal)
          if (Buffer.isBuffer(received)) return received
          if (received.meaning === 'new-address') this.#addresses.delete(key)
          await patience.afterAnswer(received.meaning, received.status, received.code, signal)
        } catch (error) {
          if (error instanceof HoldfastError && error.code === 'pin_mismatch') this.#addresses.delete(key)
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
    const answer = await request(address.url, {
      method: 'GET',
      dispatcher: this.#line.connections.for(address.pin),
      headers: { ...address.headers, ...asked },
      signal,
    })
    const status = answer.statusCode
    if (status === (range ? 206 : 200)) return this.#body(key, answer, range, signal)
    const code = await problemCode(answer.body)
    const meaning = meaningOf(status, code)
    // another success than the one asked for: something on the way does not know ranges
    return { meaning: meaning === 'done' ? 'refused' : meaning, status, code }
  }

  async #body(key: string, answer: Dispatcher.ResponseData, range: Range | null, signal: AbortSignal): Promise<Received> {
    const announced = Number(answer.headers['content-length'])
    const expected = range?.length ?? announced
    if (!(announced >= 0 && announced <= MAX_OBJECT_BYTES)) {
      discard(answer.body)
      return { meaning: 'refused', status: answer.statusCode, code: '' }
    }
    const start = /^bytes (\d+)-/.exec(String(answer.headers['content-range'] ?? ''))?.[1]
    if (range && (announced !== expected || Number(start) !== range.offset)) {
      discard(answer.body)
      return { meaning: announced < expected ? 'short' : 'refused', status: answer.statusCode, code: '' }
    }
    const bytes = Buffer.allocUnsafe(expected)
    const received = await this.#fill(bytes, answer.body, signal)
    if (received === expected) return bytes
    throw new HoldfastError('target_unreachable', `object ${key}: ${received} of ${expected} bytes came`, {
      hint: 'The connection to the store broke; it is tried again.',
    })
  }

  /** Returns how much came. By events: pieces are of 16 KiB, and an iterator would cost as much for each as all else. */
  #fill(bytes: Buffer, body: Dispatcher.ResponseData['body'], signal: AbortSignal): Promise<number> {
    const { download, totals } = this.#line
    let received = 0
    // a body can end while its last piece still waits for its turn: the next object would begin too early
    let turn: Promise<void> = Promise.resolve()
    return new Promise((resolve, reject) => {
      body.on('error', reject)
      body.on('close', () => void turn.then(() => resolve(received), reject))
      body.on('data', (piece: Buffer) => {
        // more than was announced
        if (received + piece.length > bytes.length) return void body.destroy()
        const length = piece.copy(bytes, received)
        received += length
        totals.receivedBytes += length
        giveBack(piece)
        if (download.bytesPerSecond === null) return
        body.pause()
        turn = download.take(length, signal)
        turn.then(
          () => body.resume(),
          (error: Error) => body.destroy(error),
        )
      })
    })
  }
}
