import { HoldfastError } from '../errors.ts'
import type { ByteRange } from './range.ts'
import { MAX_OBJECT_BYTES } from './target.ts'

/** Errors about objects that every kind of target says in the same words. */

/** The system's error code (`ENOENT` ...) of a thrown value, if it has one. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

/** `what` names the object and, where there are several, the bucket. */
export function objectMissing(what: string): HoldfastError {
  return new HoldfastError('object_missing', `${what} is not there`, {
    hint: 'It was removed or never stored. Run validate on its backup, and restore from another copy.',
  })
}

/** An object that ends before the range does: whoever wrote the range knew a longer one. */
export function tooShort(key: string, size: number | null, range: ByteRange): HoldfastError {
  const found = size === null ? 'ends earlier' : `has ${size} bytes`
  return new HoldfastError(
    'object_damaged',
    `object ${key} ${found}, ${range.length ?? 'the rest'} from ${range.offset} were asked for`,
    {
      hint: 'The object is shorter than its backup says. Run verify on the backup, and restore from another copy.',
    },
  )
}

export function tooLargeToHold(key: string, size: number): HoldfastError {
  return new HoldfastError('too_large', `object ${key} has ${size} bytes, more than ${MAX_OBJECT_BYTES}`, {
    hint: 'No object of a backup is that large; something else wrote it. Read it by getStream if it is wanted.',
  })
}

/** After a put found the name taken: what lies there is what was to be put, or `object_conflict`. */
export function sameOrConflict(key: string, wanted: Described, there: Described): void {
  if (there.size === wanted.size && there.sha256.equals(wanted.sha256)) return
  throw new HoldfastError('object_conflict', `object ${key} is there already with other bytes (${there.size} of them)`, {
    hint: 'Objects are never replaced. Find out who wrote it: two writers must not share a backup folder.',
  })
}

interface Described {
  readonly size: number
  readonly sha256: Buffer
}
