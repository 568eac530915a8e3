import { ERRORS, type ErrorCode, type GrpcStatus } from './errors.ts'

/** What both programs end with. Scripts rest on these. */
export const EXIT = { done: 0, failed: 1, wrongUse: 2, partly: 3, notFound: 4, refused: 5, unreachable: 6 } as const
export type ExitStatus = (typeof EXIT)[keyof typeof EXIT]

const BY_STATUS: Partial<Record<GrpcStatus, ExitStatus>> = {
  INVALID_ARGUMENT: EXIT.wrongUse,
  OUT_OF_RANGE: EXIT.wrongUse,
  UNIMPLEMENTED: EXIT.wrongUse,
  NOT_FOUND: EXIT.notFound,
  PERMISSION_DENIED: EXIT.refused,
  UNAUTHENTICATED: EXIT.refused,
}

/** The one place where an error becomes an exit status. */
export function exitStatusOf(code: ErrorCode): ExitStatus {
  if (code === 'server_unreachable' || code === 'control_plane_unreachable') return EXIT.unreachable
  return BY_STATUS[ERRORS[code].grpc] ?? EXIT.failed
}
