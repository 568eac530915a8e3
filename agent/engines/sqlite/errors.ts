import { type ErrorCode, HoldfastError } from '../../../shared/errors.ts'

/** SQLite's primary result codes (rescode.html). */
const ROWS: Record<number, [ErrorCode, string, string]> = {
  5: [
    'source_unreachable',
    'is locked by another program',
    'Run the job again when its writer has ended; a program in exclusive mode has to be stopped.',
  ],
  6: ['source_unreachable', 'is locked by another program', 'Run the job again when its writer has ended.'],
  8: ['source_denied', 'needs to be written to be opened', "Give the agent's user the right to write the file and its folder."],
  10: ['source_corrupt', 'cannot be read from its disk', 'Look at the kernel log: the disk or its file system is failing.'],
  11: [
    'source_corrupt',
    'is damaged',
    'Restore the last good backup, or rescue what can be read with the recover command of sqlite3.',
  ],
  13: ['disk_full', 'has no room left on its disk', 'Make room, then run the job again.'],
  14: [
    'source_denied',
    'cannot be opened',
    "Check that the file exists and that the agent's user may write its folder, which a database in WAL mode needs.",
  ],
  26: [
    'source_corrupt',
    'is not a SQLite database',
    'Check the path; protect an encrypted database with the files engine and a hook that holds its writer.',
  ],
}

export function sqliteError(code: number, message: string, path: string): HoldfastError {
  const row = ROWS[code & 0xff]
  if (!row) {
    const hint = 'Look up the result code in the documentation of SQLite.'
    return new HoldfastError('internal', `${path}: SQLite answered ${code}`, { hint, context: { code, message } })
  }
  return new HoldfastError(row[0], `${path} ${row[1]}`, { hint: row[2], context: { code } })
}

const FILE_ROWS: Record<string, [ErrorCode, string, string]> = {
  ENOENT: ['source_missing', 'does not exist', 'Check the path in the configuration of the source.'],
  ENOTDIR: ['source_missing', 'does not exist', 'Check the path in the configuration of the source.'],
  EISDIR: ['source_corrupt', 'is a folder', 'Name the database file.'],
  EACCES: ['source_denied', 'may not be used by the agent', "Give the agent's user the right to it."],
  EPERM: ['source_denied', 'may not be used by the agent', "Give the agent's user the right to it."],
  EROFS: ['source_denied', 'lies on a read-only file system', 'Mount it writable, or restore into another place.'],
  ENOSPC: ['disk_full', 'has no room left on its disk', 'Make room, then run the job again.'],
  EDQUOT: ['disk_full', 'has used up its quota', 'Make room, then run the job again.'],
  EIO: ['source_corrupt', 'cannot be read from its disk', 'Look at the kernel log: the disk or its file system is failing.'],
}

/** An error of the file system as one of ours; whatever else comes out as it is. */
export function fileError(error: unknown, path: string): unknown {
  if (error instanceof HoldfastError || !(error instanceof Error)) return error
  if ('errcode' in error) return sqliteError(Number(error.errcode), error.message, path)
  const row = 'code' in error ? FILE_ROWS[String(error.code)] : undefined
  return row ? new HoldfastError(row[0], `${path} ${row[1]}`, { hint: row[2], cause: error }) : error
}
