import { HoldfastError } from '../errors.ts'
import { MAX_OBJECT_BYTES } from './target.ts'

/** A part of an object: from `offset`, `length` bytes or, without it, up to the end. Null: the whole. */
export interface ByteRange {
  readonly offset: number
  readonly length: number | undefined
}

/** The range that `get` was asked for. A `length` of 0 is refused: it would say nothing about whether the object exists. */
export function requireRange(key: string, options: { offset?: number; length?: number }): ByteRange | null {
  if (options.offset === undefined && options.length === undefined) return null
  const { offset = 0, length } = options
  const offsetOk = Number.isSafeInteger(offset) && offset >= 0
  const lengthOk = length === undefined || (Number.isSafeInteger(length) && length > 0 && length <= MAX_OBJECT_BYTES)
  if (offsetOk && lengthOk) return { offset, length }
  throw new HoldfastError('invalid_argument', `range ${offset}+${length} of object ${key} is not allowed`, {
    hint: `Ask for 1 to ${MAX_OBJECT_BYTES} bytes from an offset of 0 or more.`,
  })
}
