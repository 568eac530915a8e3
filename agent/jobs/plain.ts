import { HoldfastError } from '../../shared/errors.ts'
import type { PlainError } from './messages.ts'

/** Errors cross between processes as plain values. */
export function toPlain(error: HoldfastError): PlainError {
  return { code: error.code, message: error.message, hint: error.hint, retry: error.retry }
}

export function fromPlain(error: PlainError): HoldfastError {
  return new HoldfastError(error.code, error.message, { hint: error.hint, retry: error.retry })
}
