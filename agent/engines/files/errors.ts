import { HoldfastError } from '../../../shared/errors.ts'

/** An error of the file system as one of ours; what is ours already (the sink's, an abort's reason) comes out as it is. */
export function fileError(error: unknown, what: string): unknown {
  if (error instanceof HoldfastError || !(error instanceof Error) || !('syscall' in error)) return error
  const code = 'code' in error ? String(error.code) : ''
  const row = ROWS[code]
  if (!row) {
    return new HoldfastError('internal', `${what}: ${code || error.message}`, {
      hint: 'Look up the system call that failed.',
      cause: error,
    })
  }
  return new HoldfastError(row[0], `${what}: ${row[1]}`, { hint: row[2], context: { errno: code }, cause: error })
}

const disk = 'Make room, then run the job again.'
const ROWS: Record<
  string,
  ['source_missing' | 'source_denied' | 'source_corrupt' | 'disk_full' | 'invalid_name' | 'conflict', string, string]
> = {
  ENOENT: ['source_missing', 'no such file or folder', 'Check the path in the configuration of the source.'],
  ENOTDIR: ['source_missing', 'not a folder', 'Name a folder; choose a single file of it with include.'],
  ELOOP: ['source_missing', 'a symbolic link where a folder is needed', 'Name the folder that the link points to.'],
  EACCES: ['source_denied', 'permission denied', "Give the agent's user the right to it, or run the agent as a user who has it."],
  EPERM: ['source_denied', 'not permitted', "Give the agent's user the right to it, or run the agent as a user who has it."],
  EROFS: ['source_denied', 'the file system is read-only', 'Mount it writable, or restore into another place.'],
  ENOSPC: ['disk_full', 'no space left on the device', disk],
  EDQUOT: ['disk_full', 'the quota is used up', disk],
  EFBIG: ['disk_full', 'the file is too large for the file system', 'Restore onto a file system that holds files of this size.'],
  EIO: ['source_corrupt', 'input/output error', 'Look at the kernel log: the disk or its file system is failing.'],
  ENAMETOOLONG: ['invalid_name', 'the name is too long', 'Use a shorter name, or a file system that takes it.'],
  EINVAL: ['invalid_name', 'the file system does not take this', 'Restore onto a file system that holds such names and types.'],
  EEXIST: ['conflict', 'it has appeared meanwhile', 'Find out who writes there, then run the job again.'],
  EBUSY: ['conflict', 'it is in use as a mount point', 'Restore into another name, or unmount it first.'],
  EXDEV: ['conflict', 'it lies on another file system', 'Restore into another name, or as parts file system by file system.'],
}
