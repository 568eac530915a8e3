import { EventEmitter, once } from 'node:events'
import { connect as connectPlain, isIP, type Socket } from 'node:net'
import type { ConnectionOptions, TLSSocket } from 'node:tls'
import { HoldfastError } from '../../../shared/errors.ts'
import { giveBack } from '../../../shared/give-back.ts'
import { RowFrames } from './row-frames.ts'

/** Where a server is, and how the connection is protected: not at all, if the server can, or as said. */
export interface Place {
  readonly host: string
  readonly port: number
  /** Of a Unix socket, in place of host and port. */
  readonly path?: string
  readonly tls: false | 'prefer' | ConnectionOptions
}

const CONNECT_MS = 30_000
/** Read at a time: it stays in a processor's cache until its rows are taken out. */
const READ_BYTES = 64 * 1024
/** Rows are given out so many bytes at a time. */
const PIECE_BYTES = 128 * 1024
/** PostgreSQL 18, 54.2.10. */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])

/**
 * A connection, as the client (postgres) wants its socket. It never sees a row of a COPY: those are taken out of what was read, some nanoseconds for each, and none becomes an
 * object. A tool of its own that reads them and writes them into a pipe takes three times the processor's time.
 */
export class Wire extends EventEmitter {
  readonly host: string
  readonly port: number
  readonly #socket: Socket
  readonly #frames = new RowFrames()
  /** Where rows go by turns: one piece is filled while the other is used. */
  #memory: readonly [Buffer, Buffer] | null = null
  /** Bytes that wait for room for their rows. */
  #held: { readonly piece: Buffer; readonly at: number } | null = null
  #reading = false
  #wake: () => void = () => undefined

  private constructor(socket: Socket, { host, port }: Place) {
    super()
    this.host = host
    this.port = port
    this.#socket = socket
    // the client looks away once it has closed
    socket.on('error', (error) => this.listenerCount('error') > 0 && this.emit('error', error))
    socket.on('close', (hadError) => this.emit('close', hadError))
    socket.on('drain', () => this.emit('drain'))
  }

  /** Throws what a socket throws, with the code of the system or of TLS. */
  static async open(place: Place): Promise<Wire> {
    const reading = { take: (_: Buffer): boolean => true }
    const plain = connectPlain({
      ...(place.path === undefined ? { host: place.host, port: place.port } : { path: place.path }),
      // into one piece of memory: fresh ones cost three times as much as the reading
      onread: {
        buffer: Buffer.allocUnsafeSlow(READ_BYTES),
        callback: (bytes, buffer) => reading.take((buffer as Buffer).subarray(0, bytes)),
      },
    })
    plain.setTimeout(CONNECT_MS, () => plain.destroy(timedOut()))
    try {
      await once(plain, 'connect')
      const { tls, host } = place
      const secured = tls === false || place.path !== undefined ? null : await secure(plain, { tls, host }, reading)
      plain.setTimeout(0)
      const wire = new Wire(secured ?? plain, place)
      if (secured) secured.on('data', (piece: Buffer) => wire.#takeOwn(piece))
      else {
        reading.take = (piece) => wire.#take(piece, 0)
        // its end is told to who listens only
        plain.resume()
      }
      return wire
    } catch (error) {
      plain.on('error', () => undefined).destroy()
      throw error
    }
  }

  /** Rows are on their way. */
  get isReading(): boolean {
    return this.#reading
  }

  get readyState(): string {
    return this.#socket.readyState
  }

  write(bytes: Buffer, written?: (error?: Error | null) => void): boolean {
    return this.#socket.write(bytes, written)
  }

  end(bytes?: Buffer): void {
    if (bytes) this.#socket.end(bytes)
    else this.#socket.end()
  }

  setKeepAlive(on: boolean, afterMs: number): void {
    this.#socket.setKeepAlive(on, afterMs)
  }

  /** Ends it at once; who waits for an answer is told. */
  destroy(error?: Error): void {
    this.#socket.destroy(error)
  }

  /**
   * The rows of the COPY ... TO STDOUT that `ask` asks for, and whose number it gives when all have come. Each piece is valid until the next is asked for. Throws what `ask` throws,
   * and `source_corrupt` when the server says another number than came. Left early, the connection is cut.
   */
  async *rows(ask: () => Promise<number>): AsyncGenerator<Buffer> {
    const frames = this.#frames
    this.#memory ??= [Buffer.allocUnsafeSlow(PIECE_BYTES), Buffer.allocUnsafeSlow(PIECE_BYTES)]
    let [filling, used] = this.#memory
    let over = false
    frames.begin(filling)
    this.#reading = true
    const answer = ask()
    const onAnswer = () => {
      over = true
      this.#wake()
    }
    answer.then(onAnswer, onAnswer)
    try {
      for (;;) {
        while (!over && !this.#held) await new Promise<void>((resolve) => (this.#wake = resolve))
        if (over) break
        ;[filling, used] = [used, filling]
        frames.fillInto(filling)
        this.#goOn()
        yield used
      }
      const said = await answer
      if (said !== frames.count) throw miscounted(said, frames.count)
      if (frames.filled.length > 0) yield frames.filled
    } finally {
      // who leaves early goes no further: to read the rest, in which there may be no row for hours, would only keep the failure
      if (!over) this.destroy()
      frames.end()
      this.#reading = false
    }
  }

  #goOn(): void {
    const held = this.#held
    this.#held = null
    if (held && !this.#take(held.piece, held.at)) return
    this.#socket.resume()
  }

  /** False when the rest of it is held, and nothing is to be read before there is room. */
  #take(piece: Buffer, from: number): boolean {
    let at: number
    try {
      at = this.#frames.take(piece, from)
    } catch (error) {
      this.destroy(error as Error)
      return true
    }
    const others = this.#frames.others()
    if (others) this.emit('data', others)
    if (at === piece.length) return true
    this.#held = { piece, at }
    this.#wake()
    return false
  }

  /** Of TLS: memory of its own. */
  #takeOwn(piece: Buffer): void {
    if (this.#take(piece, 0)) giveBack(piece)
    else this.#socket.pause()
  }
}

/** Null when the server cannot, and need not. */
async function secure(
  plain: Socket,
  { tls, host }: { tls: 'prefer' | ConnectionOptions; host: string },
  reading: { take(piece: Buffer): boolean },
): Promise<TLSSocket | null> {
  const lost = new Promise<never>((_, reject) => {
    plain.once('error', reject).once('close', () => reject(closed()))
  })
  const answered = new Promise<string>((resolve) => {
    reading.take = (piece) => {
      resolve(piece.toString('latin1'))
      return true
    }
  })
  plain.write(SSL_REQUEST)
  const answer = await Promise.race([answered, lost])
  if (answer === 'N' && tls === 'prefer') return null
  // more than one byte: whoever sent it wants it to be taken for what comes after the handshake (CVE-2021-23222)
  if (answer !== 'S') throw refused(answer)
  const servername = isIP(host) ? undefined : host
  // loaded where it is needed
  const { connect: connectTls } = process.getBuiltinModule('node:tls')
  const secured = connectTls({ socket: plain, servername, ...(tls === 'prefer' ? { rejectUnauthorized: false } : tls) })
  // what fails after another has is no news
  secured.on('error', () => undefined)
  await Promise.race([once(secured, 'secureConnect'), lost])
  return secured
}

const coded = (code: string, message: string): Error => Object.assign(new Error(message), { code })
const timedOut = (): Error => coded('CONNECT_TIMEOUT', 'the server did not answer within 30 s')
const closed = (): Error => coded('CONNECTION_CLOSED', 'the server closed the connection')

function refused(answer: string): HoldfastError {
  if (answer === 'N') {
    return new HoldfastError('source_denied', 'the server does not speak TLS, and the source asks for it', {
      hint: 'Set ssl = on in postgresql.conf, or sslmode=disable in the address where nobody else can reach the line.',
    })
  }
  return new HoldfastError(
    'source_unreachable',
    'what answers at the address is no PostgreSQL server that can be connected to now',
    {
      hint: 'Check host and port of the address, and the log of the server.',
    },
  )
}

function miscounted(said: number, came: number): HoldfastError {
  return new HoldfastError('source_corrupt', `the server says that it sent ${said} rows, and ${came} came`, {
    hint: 'Check what is between this host and the server (a pooler, a proxy), then run the job again.',
  })
}
