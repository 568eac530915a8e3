import { expect, test } from 'vitest'
import { parseDuration } from './units.ts'

test.each([
  ['90s', 90],
  ['10m', 600],
  ['4h', 14_400],
  ['30d', 2_592_000],
  ['1d12h', 129_600],
])('%s is %d seconds', (text, seconds) => {
  expect(parseDuration(text)).toBe(seconds)
})

test.each(['', '4', '4 h', '-4h', '4y', 'h', '4h!', '1.5h'])('duration %j is refused', (text) => {
  expect(() => parseDuration(text)).toThrow(expect.objectContaining({ code: 'invalid_config' }))
})
