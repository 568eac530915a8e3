import { Readable } from 'node:stream'
import { HoldfastError } from '../../shared/errors.ts'
import { MAX_OBJECT_BYTES } from '../../shared/storage/target.ts'
import { type Address, requireAddress } from './address.ts'
import { type Meaning, meaningOf, Problem } from './answers.ts'
import { Patience } from './patience.ts'
import { request } from './request.ts'
import { paced } from './throttle.ts'
import type { Line, ObjectToPut } from './transfer.ts'

export class Putter {
  readonly #line: Line

  constructor(line: Line) {
    this.#line = line
  }

  async put(name: string, bytes: Buffer, sha256: Buffer, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (bytes.length > MAX_OBJECT_BYTES) {
      throw new HoldfastError('too_large', `object ${name} has ${bytes.length} bytes, more than ${MAX_OBJECT_BYTES}`)
    }
    const { clock, log } = this.#line.options
    const patience = new Patience(`object ${name}`, { clock, log, patienceMs: this.#line.patienceMs })
    try {
      await this.#untilStored({ name, size: bytes.length, sha256 }, bytes, patience, signal)
    } finally {
      this.#line.totals.retries += patience.retries
    }
  }

  async #untilStored(object: ObjectToPut, bytes: Buffer, patience: Patience, signal: AbortSignal): Promise<void> {
    let address: Address | null = null
    for (;;) {
      try {
        if (!address || this.#line.options.clock.monotonicMs() >= address.usableUntilMs) {
          const signed = await this.#sign(object, signal)
          if (signed === 'stored') return
          address = signed
        }
        const { meaning, status, code } = await this.#send(address, bytes, signal)
        if (meaning === 'done') return
        // asked again after a 412, the control plane asks the store whose object that is
        if (meaning === 'taken' || meaning === 'new-address') address = null
        await patience.afterAnswer(meaning, status, code, signal)
      } catch (error) {
        // nobody knows what came of it: asked again, the control plane looks in the store before anything is sent a second time. A store
        // that answers a repeated put before it has read it can lose that answer to a reset each time
        address = null
        await patience.afterError(error, signal)
      }
    }
  }

  async #sign(object: ObjectToPut, signal: AbortSignal): Promise<Address | 'stored'> {
    const askedAtMs = this.#line.options.clock.monotonicMs()
    const [signed] = await this.#line.options.signPuts([object], signal)
    if (signed?.alreadyStored) return 'stored'
    if (!signed) throw new HoldfastError('internal', `no address came for object ${object.name}`)
    return requireAddress(signed, 'PUT', `object ${object.name}`, askedAtMs)
  }

  async #send(address: Address, bytes: Buffer, signal: AbortSignal): Promise<{ meaning: Meaning; status: number; code: string }> {
    const { connections, upload, totals } = this.#line
    const pieces = paced(bytes, upload, signal, (sent) => {
      totals.sentBytes += sent
    })
    const options = {
      method: 'PUT',
      ...connections.to(address),
      headers: { ...address.headers, 'content-length': String(bytes.length) },
      body: Readable.from(pieces, { objectMode: false }),
      signal,
    }
    const problem = new Problem()
    let status = 0
    await request(address.url, options, (code) => {
      status = code
      return problem
    })
    return { meaning: meaningOf(status, problem.code), status, code: problem.code }
  }
}
