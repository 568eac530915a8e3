import { asHoldfastError, HoldfastError } from '../../shared/errors.ts'

/** SQLITE_FULL (rescode.html), of the locks, which are SQLite's. */
const SQLITE_FULL = 13

/**
 * An error of the agent's own work as ours. No room in its folders is said as such, with the folder, and is tried again: engines and stores say it of theirs
 * themselves.
 */
export function ownError(error: unknown, folder: string): HoldfastError {
  if (error instanceof HoldfastError || !isFull(error)) return asHoldfastError(error)
  return new HoldfastError('disk_full', `no room is left on the disk of the agent's folder ${folder}`, {
    hint: "Make room on that disk, or move the agent's home; the job is tried again by itself.",
    cause: error,
  })
}

function isFull(error: unknown): boolean {
  const { code, errcode } = (error ?? {}) as { code?: unknown; errcode?: unknown }
  return code === 'ENOSPC' || code === 'EDQUOT' || (typeof errcode === 'number' && (errcode & 0xff) === SQLITE_FULL)
}
