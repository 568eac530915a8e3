import {
  createServer as createPlain,
  type IncomingMessage,
  type RequestListener,
  request as requestPlain,
  type ServerResponse,
} from 'node:http'
import { createServer as createTls, request as requestTls } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { Readable } from 'node:stream'
import type { TestCertificate } from './certificate.ts'

/**
 * A proxy before an HTTP or HTTPS server that does to each request what its script says. `Host` and every other header pass
 * unchanged, so that signatures hold when the client was given the proxy's address.
 */
export type Fault =
  | { readonly kind: 'pass' }
  /** Answers itself; the server hears nothing. */
  | {
      readonly kind: 'status'
      readonly status: number
      readonly body?: string
      readonly headers?: Readonly<Record<string, string>>
    }
  /** The server does it, and the client never learns: the connection is reset instead of the answer. */
  | { readonly kind: 'lose-reply' }
  /** The connection is reset on both sides after so many bytes of the request's body. */
  | { readonly kind: 'cut-request'; readonly afterBytes: number }
  /** The connection is reset after so many bytes of the answer's body. */
  | { readonly kind: 'cut-reply'; readonly afterBytes: number }
  /** One byte of the request's body is another one when it arrives. */
  | { readonly kind: 'flip-request'; readonly atByte: number }
  /** Both bodies pass at this rate. */
  | { readonly kind: 'slow'; readonly bytesPerSecond: number }
  /** The answer comes without these headers, named in lower case. */
  | { readonly kind: 'without-headers'; readonly names: readonly string[] }
  /** The request is held until `release` resolves. */
  | { readonly kind: 'hold'; readonly release: Promise<void> }
  /** The server does it at once, and its answer is held until `release` resolves: answers to later requests overtake it. */
  | { readonly kind: 'hold-reply'; readonly release: Promise<void>; answered?(): void }
  /** The server gets the request twice, one after the other; the second answer is given. */
  | { readonly kind: 'request-twice' }
  /** The answer comes twice on its connection. */
  | { readonly kind: 'reply-twice' }
  /** The server hears nothing: the last answer to a request of the same method is given again. Passes while there is none. */
  | { readonly kind: 'stale-reply' }

export interface SeenRequest {
  /** Counts from 1. */
  readonly number: number
  readonly method: string
  /** Path and query. */
  readonly url: string
  readonly headers: IncomingMessage['headers']
}

export interface DoneRequest extends SeenRequest {
  readonly fault: Fault
  /** Bytes of the body that were passed on to the server, twice where it got them twice. */
  passedBytes: number
}

interface Answer {
  readonly status: number
  /** Names and values in turn. */
  readonly headers: string[]
  readonly body: Buffer
}

export interface FaultProxy extends AsyncDisposable {
  readonly port: number
  /** `http://127.0.0.1:PORT` or `https://...`. */
  readonly origin: string
  /** Every request so far, with what was done to it. */
  readonly seen: readonly Readonly<DoneRequest>[]
  /** What happens to requests from now on. */
  script: (request: SeenRequest) => Fault
  stop(): Promise<void>
}

export interface FaultProxyOptions {
  /** `http://127.0.0.1:PORT` or `https://127.0.0.1:PORT`. */
  readonly upstream: string
  readonly script?: (request: SeenRequest) => Fault
  /** Makes it an HTTPS server; with the upstream's own certificate a pin holds too. */
  readonly tls?: TestCertificate
}

const PASS: Fault = { kind: 'pass' }

export async function startFaultProxy(options: FaultProxyOptions): Promise<FaultProxy> {
  const seen: DoneRequest[] = []
  const last = new Map<string, Answer>()
  const sockets = new Set<Socket>()
  const listener: RequestListener = (request, response) => {
    const { method = '', url = '', headers } = request
    const one: SeenRequest = { number: seen.length + 1, method, url, headers }
    const fault = proxy.script(one)
    const done: DoneRequest = { ...one, fault, passedBytes: 0 }
    seen.push(done)
    // taken now: a request that ended has none any more
    const { socket } = request
    serve({ upstream: options.upstream, request, response, fault, done, last }).catch(() => socket.destroy())
  }
  const { tls } = options
  const server = tls ? createTls({ key: tls.key.reveal(), cert: tls.cert }, listener) : createPlain(listener)
  server.on(tls ? 'secureConnection' : 'connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const stop = async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise<void>((resolve) => server.close(() => resolve()))
  }
  const proxy: FaultProxy = {
    port,
    origin: `${tls ? 'https' : 'http'}://127.0.0.1:${port}`,
    seen,
    script: options.script ?? (() => PASS),
    stop,
    [Symbol.asyncDispose]: stop,
  }
  return proxy
}

interface Exchange {
  readonly upstream: string
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly fault: Fault
  readonly done: DoneRequest
  /** Of each method. */
  readonly last: Map<string, Answer>
}

async function serve(exchange: Exchange): Promise<void> {
  const { request, response, fault, last } = exchange
  const { socket } = request
  if (fault.kind === 'status') {
    request.resume()
    response.writeHead(fault.status, { ...fault.headers }).end(fault.body ?? '')
    return
  }
  const before = last.get(request.method ?? '')
  if (fault.kind === 'stale-reply' && before) {
    for await (const _ of request);
    response.writeHead(before.status, before.headers as never).end(before.body)
    return
  }
  if (fault.kind === 'hold') await fault.release
  if (fault.kind === 'request-twice') return serveTwice(exchange)
  const answer = await forward(
    exchange,
    changed(exchange, () => reset(socket)),
  )
  if (fault.kind === 'hold-reply') {
    fault.answered?.()
    await fault.release
  }
  if (fault.kind === 'lose-reply') {
    // to its end: the server is then done with the request
    for await (const _ of answer);
    reset(socket)
    return
  }
  response.writeHead(answer.statusCode ?? 502, passedOn(answer.rawHeaders, fault) as never)
  let sent = 0
  const pieces: Buffer[] = []
  for await (const piece of paced(answer, fault)) {
    pieces.push(piece)
    if (fault.kind === 'cut-reply' && sent + piece.length >= fault.afterBytes) {
      response.write(piece.subarray(0, fault.afterBytes - sent), () => reset(socket))
      return
    }
    sent += piece.length
    if (!response.write(piece)) await roomAgain(response)
  }
  const whole: Answer = { status: answer.statusCode ?? 502, headers: answer.rawHeaders, body: Buffer.concat(pieces) }
  if (whole.status < 300) last.set(request.method ?? '', whole)
  if (fault.kind === 'reply-twice') response.end(() => socket.write(onTheWire(whole)))
  else response.end()
}

async function serveTwice(exchange: Exchange): Promise<void> {
  const pieces: Buffer[] = []
  for await (const piece of exchange.request) pieces.push(piece)
  // its own answer is nobody's
  for await (const _ of await forward(exchange, [...pieces]));
  const answer = await forward(exchange, pieces)
  exchange.done.passedBytes = 2 * pieces.reduce((sum, { length }) => sum + length, 0)
  exchange.response.writeHead(answer.statusCode ?? 502, answer.rawHeaders as never)
  for await (const piece of answer) exchange.response.write(piece)
  exchange.response.end()
}

function onTheWire({ status, headers, body }: Answer): Buffer {
  const lines = headers.flatMap((name, n) => (n % 2 ? [] : [`${name}: ${headers[n + 1]}`]))
  return Buffer.concat([Buffer.from(`HTTP/1.1 ${status} Again\r\n${lines.join('\r\n')}\r\n\r\n`, 'latin1'), body])
}

/** Names and values in turn. */
function passedOn(raw: string[], fault: Fault): string[] {
  if (fault.kind !== 'without-headers') return raw
  return raw.filter((_, n) => !fault.names.includes((raw[n - (n % 2)] ?? '').toLowerCase()))
}

function roomAgain(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done).off('close', done)
      resolve()
    }
    response.once('drain', done).once('close', done)
  })
}

function forward({ upstream, request }: Exchange, body: AsyncIterable<Buffer> | Iterable<Buffer>): Promise<IncomingMessage> {
  const { hostname, port, protocol } = new URL(upstream)
  const send = protocol === 'https:' ? requestTls : requestPlain
  return new Promise((resolve, reject) => {
    // the raw list keeps `Host` as the client signed it, and the spelling and order of all others
    const options = {
      host: hostname,
      port,
      method: request.method,
      path: request.url,
      rejectUnauthorized: false,
      agent: false as const,
    }
    const onward = send({ ...options, headers: request.rawHeaders as never, setHost: false }, resolve)
    onward.once('error', reject)
    const pieces = Readable.from(body, { objectMode: false })
    pieces.once('error', (error) => onward.destroy(error))
    pieces.pipe(onward)
  })
}

async function* changed({ request, fault, done }: Exchange, cut: () => void): AsyncGenerator<Buffer> {
  let passed = 0
  for await (const piece of paced(request, fault)) {
    const from = passed
    passed += piece.length
    done.passedBytes = passed
    if (fault.kind === 'cut-request' && passed >= fault.afterBytes) {
      yield piece.subarray(0, fault.afterBytes - from)
      cut()
      throw new Error('cut')
    }
    if (fault.kind === 'flip-request' && fault.atByte >= from && fault.atByte < passed) {
      const other = Buffer.from(piece)
      other[fault.atByte - from] = (other[fault.atByte - from] ?? 0) ^ 1
      yield other
      continue
    }
    yield piece
  }
}

async function* paced(body: AsyncIterable<Buffer>, fault: Fault): AsyncGenerator<Buffer> {
  for await (const piece of body) {
    if (fault.kind === 'slow') await new Promise((resolve) => setTimeout(resolve, (piece.length * 1000) / fault.bytesPerSecond))
    yield piece
  }
}

/** RST instead of FIN where the socket allows it: what a dead host or a firewall looks like. */
function reset(socket: Socket): void {
  if ('encrypted' in socket) socket.destroy()
  else socket.resetAndDestroy()
}
