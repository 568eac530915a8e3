import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Clock } from '../../shared/clock.ts'
import { asHoldfastError, type ErrorCode, HoldfastError, isHoldfastError } from '../../shared/errors.ts'
import type { Logger } from '../../shared/log.ts'
import type { Secret } from '../../shared/secret.ts'
import { type Allowed, requireFresh, verifyLocalAddress } from '../../shared/storage/local/address.ts'
import { OBJECT_FILE_TYPE } from '../../shared/storage/local/object-file.ts'
import type { LocalTarget } from '../../shared/storage/local/target.ts'
import { MAX_OBJECT_BYTES } from '../../shared/storage/target.ts'
import { parseRange } from './range-header.ts'
import { sendRange } from './send-range.ts'

export interface ServeOptions {
  readonly targets: ReadonlyMap<string, LocalTarget>
  readonly signingKey: Secret<Buffer>
  readonly clock: Clock
  readonly log: Logger
  /** Who is let in here has this host and this user, and may read an object's file itself. */
  readonly tellsFiles: boolean
  /** Told of the length of each object that was received or sent. */
  passed(bytes: number): void
}

/** One request from its first byte to its answer. Never throws. */
export async function serveObject(request: IncomingMessage, response: ServerResponse, options: ServeOptions): Promise<void> {
  const ended = new AbortController()
  // a file cut short while it is sent ends the connection, instead of leaving the reader waiting for the rest
  response.strictContentLength = true
  response.once('close', () => ended.abort(new HoldfastError('target_unreachable', 'the connection was closed')))
  // the address itself is never logged: whoever reads it could use it until it expires
  const log = options.log.child({ method: request.method, peer: request.socket.remoteAddress ?? 'this host' })
  try {
    const allowed = verifyLocalAddress(request.method ?? '', request.url ?? '', options.signingKey, options.clock)
    const target = options.targets.get(allowed.target)
    if (!target) throw new HoldfastError('not_found', `storage target ${allowed.target} is not served here`)
    const work = { target, signal: ended.signal, clock: options.clock }
    if (allowed.method === 'GET' && options.tellsFiles && request.headers.accept === OBJECT_FILE_TYPE) {
      await tell(response, target, allowed.key)
      return log.debug({ object: allowed.key }, 'told where the object lies')
    }
    if (allowed.method === 'PUT') options.passed(await receive(request, response, { ...work, allowed }))
    else options.passed(await send(request, response, { ...work, allowed }))
    log.debug({ object: allowed.key }, 'object served')
  } catch (error) {
    const problem = asHoldfastError(error)
    if (ended.signal.aborted) return log.info({ code: problem.code }, 'the connection ended before the object did')
    const status = STATUS[problem.code] ?? 500
    log[status === 500 ? 'error' : 'info']({ code: problem.code, status, reason: problem.message }, 'object request refused')
    refuse(request, response, status, problem.code)
  }
}

interface Work<Method> {
  readonly allowed: Extract<Allowed, { method: Method }>
  readonly target: LocalTarget
  readonly signal: AbortSignal
  readonly clock: Clock
}

/** The same statuses that S3 answers with, so that agents know one set of rules. */
const STATUS: Partial<Record<ErrorCode, number>> = {
  invalid_argument: 400,
  object_damaged: 400,
  forbidden: 403,
  address_expired: 403,
  not_found: 404,
  object_missing: 404,
  object_conflict: 412,
  already_exists: 412,
  out_of_range: 416,
  target_denied: 500,
  target_unreachable: 503,
  disk_full: 507,
}

/** Its length. */
async function receive(request: IncomingMessage, response: ServerResponse, work: Work<'PUT'>): Promise<number> {
  const { allowed, target, signal, clock } = work
  if (request.headers['content-length'] !== String(allowed.size)) {
    throw new HoldfastError('forbidden', `the length of the body for object ${allowed.key} is not the one signed`)
  }
  // looked at first so that 64 MiB are not sent for nothing; the link that makes an object visible decides
  if ((await target.size(allowed.key)) !== null) throw taken(allowed.key)
  const { size, sha256, key } = allowed
  // again at the end: once its address has expired, an attempt that came to nothing may be cleaned away for good
  const beforeVisible = () => requireFresh(allowed, clock)
  const stored = await target.putStream(key, request, { size, sha256, overwrite: false, signal, beforeVisible })
  if (stored === 'same') throw taken(key)
  response.writeHead(200, { 'content-length': 0 }).end()
  return size
}

function taken(key: string): HoldfastError {
  return new HoldfastError('already_exists', `object ${key} is there already`)
}

/** How much of it. */
async function send(request: IncomingMessage, response: ServerResponse, work: Work<'GET'>): Promise<number> {
  const { target, allowed } = work
  const object = await missingIfNoFile(allowed.key, target.open(allowed.key))
  try {
    const range = parseRange(request.headers.range, object.size)
    const headers = { 'content-type': 'application/octet-stream', 'accept-ranges': 'bytes' }
    if (range === 'whole') {
      response.writeHead(200, { ...headers, 'content-length': object.size })
      await sendRange(object, { offset: 0, length: object.size }, response, work.signal)
      return object.size
    }
    const last = range.offset + range.length - 1
    response.writeHead(206, {
      ...headers,
      'content-length': range.length,
      'content-range': `bytes ${range.offset}-${last}/${object.size}`,
    })
    await sendRange(object, range, response, work.signal)
    return range.length
  } finally {
    await object.close()
  }
}

/** Where it lies. */
async function tell(response: ServerResponse, target: LocalTarget, key: string): Promise<void> {
  const body = Buffer.from(JSON.stringify(await missingIfNoFile(key, target.file(key))))
  response.writeHead(200, { 'content-type': OBJECT_FILE_TYPE, 'content-length': body.length }).end(body)
}

/** What is no file is no object: who asks for it is told so, as by S3, and need not come again. */
async function missingIfNoFile<T>(key: string, found: Promise<T>): Promise<T> {
  try {
    return await found
  } catch (cause) {
    if (!isHoldfastError(cause, 'target_refused')) throw cause
    throw new HoldfastError('object_missing', `object ${key} is not there: ${cause.message}`, { cause })
  }
}

/**
 * In the words of S3, in which agents look for a `Code`. The connection stays, and what is left of the body is read and dropped: a
 * sender in its middle would lose our answer to a reset. A body that no address allows is not waited for.
 */
function refuse(request: IncomingMessage, response: ServerResponse, status: number, code: ErrorCode): void {
  if (response.headersSent) return void response.destroy()
  const body = `<Error><Code>${code}</Code></Error>`
  const bounded =
    request.headers['transfer-encoding'] === undefined && Number(request.headers['content-length'] ?? 0) <= MAX_OBJECT_BYTES
  const headers = {
    'content-type': 'application/xml',
    'content-length': body.length,
    ...(bounded ? {} : { connection: 'close' }),
  }
  response.writeHead(status, headers).end(body)
}
