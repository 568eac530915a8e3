import { expect, test } from 'vitest'
import { asHoldfastError, HoldfastError } from '../../shared/errors.ts'
import { toPlain } from './plain.ts'
import { wireError } from './wire.ts'

test('a job is tried again after what may pass, and after what nobody foresaw', () => {
  const retryable = (error: unknown) => wireError(toPlain(asHoldfastError(error))).retryable
  expect(retryable(new HoldfastError('source_unreachable', 'gone'))).toBe(true)
  expect(retryable(new TypeError('a mistake of ours'))).toBe(true)
  expect(retryable(new HoldfastError('source_denied', 'no'))).toBe(false)
  expect(retryable(new HoldfastError('source_unreachable', 'for good', { retry: false }))).toBe(false)
})
