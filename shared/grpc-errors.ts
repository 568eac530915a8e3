import {
  type CallContext,
  ClientError,
  type ClientMiddleware,
  Metadata,
  ServerError,
  type ServerMiddleware,
  Status,
} from 'nice-grpc-common'
import { ERRORS, type ErrorCode, type GrpcStatus, HoldfastError, isHoldfastError } from './errors.ts'

/**
 * The one place where errors become a gRPC status, and the one where a status becomes an error again. Code, hint, advice and the key of the object
 * that it is about travel in a trailer, so that both sides speak of the same row of the table.
 */

const TRAILER = 'holdfast-error-bin'
/** Trailers share HTTP/2's limit for headers (16 KiB by default) with everything else in them. */
const MAX_TEXT = 2000

/** Server side: turns whatever a method throws into a status. `onInternal` sees what must not leave this process. */
export function errorsToStatus(onInternal: (error: unknown, method: string) => void): ServerMiddleware {
  return async function* (call, context) {
    try {
      return yield* call.next(call.request, context)
    } catch (error) {
      // cancelled by the caller: nobody is left to read a status
      if (context.signal.aborted && !isHoldfastError(error)) throw error
      if (!isHoldfastError(error)) onInternal(error, call.method.path)
      throw toServerError(error, context)
    }
  }
}

function toServerError(error: unknown, context: CallContext): ServerError {
  const known = isHoldfastError(error)
    ? error
    : new HoldfastError('internal', 'the control plane failed while answering', {
        hint: 'Look for this moment in the log of the control plane.',
      })
  const key = text(known.context?.key)
  const body = { code: known.code, message: clip(known.message), hint: clip(known.hint), retry: known.retry, key }
  context.trailer.set(TRAILER, Buffer.from(JSON.stringify(body)))
  return new ServerError(Status[ERRORS[known.code].grpc], clip(known.message) ?? '')
}

const clip = (text: string | undefined) => text?.slice(0, MAX_TEXT)

/** Client side: every failed call throws a HoldfastError; an aborted one throws the abort as it is. */
export const statusToErrors: ClientMiddleware = async function* (call, options) {
  let trailer = Metadata()
  try {
    return yield* call.next(call.request, {
      ...options,
      onTrailer(received) {
        trailer = received
        options.onTrailer?.(received)
      },
    })
  } catch (error) {
    if (!(error instanceof ClientError)) throw error
    throw fromTrailer(trailer, error) ?? fromStatus(error)
  }
}

function fromTrailer(trailer: Metadata, cause: ClientError): HoldfastError | null {
  const bytes = trailer.get(TRAILER)
  if (!bytes) return null
  const body = parse(bytes)
  if (!body || typeof body.code !== 'string' || !Object.hasOwn(ERRORS, body.code)) return null
  return new HoldfastError(body.code as ErrorCode, text(body.message) ?? cause.details, {
    hint: text(body.hint),
    retry: typeof body.retry === 'boolean' ? body.retry : undefined,
    context: contextOf(body.key),
    cause,
  })
}

function parse(bytes: Uint8Array): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'))
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null
  } catch {
    // a peer may send anything: the bare status still says what happened
    return null
  }
}

/** The object that it is about. */
const contextOf = (key: unknown) => (typeof key === 'string' ? { key: clip(key) } : undefined)

const text = (value: unknown) => (typeof value === 'string' ? clip(value) : undefined)

/** Statuses that gRPC itself makes, or that a peer without our trailer sends. */
const CODES: Partial<Record<GrpcStatus, ErrorCode>> = {
  INVALID_ARGUMENT: 'invalid_argument',
  NOT_FOUND: 'not_found',
  ALREADY_EXISTS: 'already_exists',
  PERMISSION_DENIED: 'forbidden',
  UNAUTHENTICATED: 'unauthenticated',
  // gRPC's own: a message over the limit. Ours for calls too often brings the trailer.
  RESOURCE_EXHAUSTED: 'too_large',
  ABORTED: 'conflict',
  UNIMPLEMENTED: 'not_supported',
  UNAVAILABLE: 'control_plane_unreachable',
  DEADLINE_EXCEEDED: 'deadline_exceeded',
}

function fromStatus(error: ClientError): HoldfastError {
  const code = CODES[Status[error.code] as GrpcStatus] ?? 'internal'
  return new HoldfastError(code, `${error.path}: ${error.details.slice(0, MAX_TEXT)}`, { cause: error })
}
