import { HoldfastError } from '../../errors.ts'
import { objectMissing, systemCode } from '../object-errors.ts'

export { systemCode }

/** A file system's error as ours. `what` names the object or the folder. */
export function fromSystem(error: unknown, what: string): Error {
  if (error instanceof HoldfastError) return error
  const code = systemCode(error)
  const context = { system_code: code }
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return objectMissing(`object ${what}`)
    case 'ENOSPC':
    case 'EDQUOT':
      return new HoldfastError('disk_full', `the disk of the storage target is full while writing ${what}`, {
        hint: 'Free space on that disk, shorten the retention, or move the target.',
        context,
      })
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new HoldfastError('target_denied', `the storage target's folder does not allow ${what} (${code})`, {
        hint: "Make the target's folder belong to the user that this program runs as, with mode 0700.",
        context,
      })
    case 'ELOOP':
      return notOurs(what)
    case undefined:
      return error instanceof Error ? error : new HoldfastError('internal', String(error))
    default:
      return new HoldfastError('target_unreachable', `the storage target's folder fails at ${what} (${code})`, {
        hint: 'Look at the disk and the mount of that folder; the system log may say more.',
        context,
      })
  }
}

/** Something in the store that is neither a plain file nor a plain folder. It is never followed. */
export function notOurs(what: string): HoldfastError {
  return new HoldfastError('target_refused', `${what} in the storage target is a link or another special file`, {
    hint: 'A store holds plain files and folders only. Find out who placed it there, and remove it.',
  })
}
