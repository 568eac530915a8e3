import { HoldfastError } from '../../shared/errors.ts'
import type { PlainError } from './messages.ts'

/** Errors cross between processes as plain values. */
export function toPlain(error: HoldfastError): PlainError {
  const key = error.context?.key
  return {
    code: error.code,
    message: error.message,
    hint: error.hint,
    retry: error.retry,
    key: typeof key === 'string' ? key : undefined,
  }
}

export function fromPlain(error: PlainError): HoldfastError {
  const context = error.key === undefined ? undefined : { key: error.key }
  return new HoldfastError(error.code, error.message, { hint: error.hint, retry: error.retry, context })
}
