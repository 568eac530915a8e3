/**
 * The one table of errors. A code is part of the product's interface: scripts and alerts match it.
 * `grpc` is the status name on the wire, `http` the problem's status (RFC 9457), `retry` whether the
 * same request may succeed later without anyone changing anything.
 */
export interface ErrorRow {
  readonly grpc: GrpcStatus
  readonly http: number
  readonly retry: boolean
}

export type GrpcStatus =
  | 'INVALID_ARGUMENT'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'PERMISSION_DENIED'
  | 'UNAUTHENTICATED'
  | 'RESOURCE_EXHAUSTED'
  | 'FAILED_PRECONDITION'
  | 'ABORTED'
  | 'OUT_OF_RANGE'
  | 'UNIMPLEMENTED'
  | 'INTERNAL'
  | 'UNAVAILABLE'
  | 'DEADLINE_EXCEEDED'
  | 'DATA_LOSS'
  | 'CANCELLED'

const row = (grpc: GrpcStatus, http: number, retry = false): ErrorRow => ({ grpc, http, retry })

export const ERRORS = {
  // requests
  invalid_argument: row('INVALID_ARGUMENT', 400),
  invalid_name: row('INVALID_ARGUMENT', 400),
  invalid_config: row('INVALID_ARGUMENT', 400),
  not_supported: row('UNIMPLEMENTED', 422),
  not_found: row('NOT_FOUND', 404),
  ambiguous: row('INVALID_ARGUMENT', 400),
  already_exists: row('ALREADY_EXISTS', 409),
  conflict: row('ABORTED', 409),
  idempotency_mismatch: row('INVALID_ARGUMENT', 422),
  too_large: row('RESOURCE_EXHAUSTED', 413),
  out_of_range: row('OUT_OF_RANGE', 416),
  rate_limited: row('RESOURCE_EXHAUSTED', 429, true),
  // who may do what
  unauthenticated: row('UNAUTHENTICATED', 401),
  forbidden: row('PERMISSION_DENIED', 403),
  token_invalid: row('UNAUTHENTICATED', 401),
  token_used: row('UNAUTHENTICATED', 401),
  token_expired: row('UNAUTHENTICATED', 401),
  pin_mismatch: row('UNAUTHENTICATED', 401),
  certificate_revoked: row('PERMISSION_DENIED', 403),
  certificate_expired: row('UNAUTHENTICATED', 401),
  certificate_superseded: row('PERMISSION_DENIED', 403),
  agent_suspended: row('PERMISSION_DENIED', 403),
  clock_skew: row('FAILED_PRECONDITION', 412),
  control_plane_unreachable: row('UNAVAILABLE', 503, true),
  protocol_unsupported: row('FAILED_PRECONDITION', 426),
  restore_not_allowed: row('PERMISSION_DENIED', 403),
  // sessions and jobs
  session_superseded: row('ABORTED', 409),
  attempt_fenced: row('ABORTED', 409),
  job_state: row('FAILED_PRECONDITION', 409),
  job_cancelled: row('CANCELLED', 409),
  job_lost: row('UNAVAILABLE', 503, true),
  lease_lost: row('ABORTED', 409, true),
  deadline_exceeded: row('DEADLINE_EXCEEDED', 504, true),
  overlap: row('FAILED_PRECONDITION', 409, true),
  agent_offline: row('UNAVAILABLE', 503, true),
  agent_crashed: row('UNAVAILABLE', 503, true),
  preflight_failed: row('FAILED_PRECONDITION', 409),
  /** No operator came with a recovery key while the job waited. */
  unlock_expired: row('FAILED_PRECONDITION', 409),
  // source and tools
  source_unreachable: row('UNAVAILABLE', 503, true),
  source_denied: row('PERMISSION_DENIED', 403),
  source_missing: row('NOT_FOUND', 404),
  source_changed: row('ABORTED', 409, true),
  source_locked: row('ABORTED', 409, true),
  source_corrupt: row('DATA_LOSS', 422),
  source_exists: row('ALREADY_EXISTS', 409),
  tool_missing: row('FAILED_PRECONDITION', 409),
  tool_version: row('FAILED_PRECONDITION', 409),
  tool_failed: row('INTERNAL', 500, true),
  disk_full: row('RESOURCE_EXHAUSTED', 507, true),
  /** The agent's own: a source whose disk fails is `source_corrupt`, a store `target_unreachable`. */
  disk_failed: row('UNAVAILABLE', 503, true),
  // repository
  format_unknown: row('FAILED_PRECONDITION', 422),
  object_missing: row('DATA_LOSS', 422),
  object_damaged: row('DATA_LOSS', 422),
  object_conflict: row('ABORTED', 409),
  manifest_forged: row('DATA_LOSS', 422),
  manifest_rolled_back: row('DATA_LOSS', 422),
  key_missing: row('FAILED_PRECONDITION', 422),
  base_unusable: row('FAILED_PRECONDITION', 409),
  backup_invalid: row('DATA_LOSS', 422),
  backup_in_use: row('FAILED_PRECONDITION', 409),
  fingerprint_mismatch: row('DATA_LOSS', 422),
  // storage
  target_unreachable: row('UNAVAILABLE', 503, true),
  target_denied: row('PERMISSION_DENIED', 403, true),
  target_refused: row('FAILED_PRECONDITION', 409),
  address_expired: row('PERMISSION_DENIED', 403, true),
  // catalog
  catalog_unreachable: row('UNAVAILABLE', 503, true),
  catalog_newer: row('FAILED_PRECONDITION', 500),
  catalog_locked: row('FAILED_PRECONDITION', 500),
  catalog_damaged: row('DATA_LOSS', 500),
  // the program
  /** Seen by the command line: the control plane does not answer. */
  server_unreachable: row('UNAVAILABLE', 503, true),
  port_taken: row('FAILED_PRECONDITION', 500),
  internal: row('INTERNAL', 500),
} as const satisfies Record<string, ErrorRow>

export type ErrorCode = keyof typeof ERRORS

export interface ErrorDetails {
  /** A full sentence telling a person what to do. */
  readonly hint?: string
  /** Printable facts; never a secret. */
  readonly context?: Readonly<Record<string, unknown>>
  readonly cause?: unknown
  /** Overrides the table's advice. */
  readonly retry?: boolean
}

/** Every error that leaves a module. `message` is in lower case and names the thing. */
export class HoldfastError extends Error {
  readonly code: ErrorCode
  readonly hint: string | undefined
  readonly context: Readonly<Record<string, unknown>> | undefined
  readonly retry: boolean

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, { cause: details.cause })
    this.name = 'HoldfastError'
    this.code = code
    this.hint = details.hint
    this.context = details.context
    this.retry = details.retry ?? ERRORS[code].retry
  }
}

/** True for an error of ours, of this code when one is given. */
export function isHoldfastError(error: unknown, code?: ErrorCode): error is HoldfastError {
  return error instanceof HoldfastError && (code === undefined || error.code === code)
}

/** Any thrown value as a HoldfastError; a foreign one becomes `internal` with the original as its cause. */
export function asHoldfastError(error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error
  const message = error instanceof Error ? error.message : String(error)
  return new HoldfastError('internal', message, { cause: error })
}
