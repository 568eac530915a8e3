import { expect, test } from 'vitest'
import { parseDuration, parseRate } from './units.ts'

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

test.each([
  ['100MB/s', 100_000_000],
  ['1.5GB/s', 1_500_000_000],
  ['512KiB/s', 524_288],
])('%s is %d bytes a second', (text, bytes) => {
  expect(parseRate(text)).toBe(bytes)
})

test.each(['', '100', '100MB', '100 MB/s', '100Mb/s', '100Mbit/s', '-1MB/s', '1e9KB/s', 'MB/s', '100mb/s', '999999999GiB/s'])(
  'rate %j is refused',
  (text) => {
    expect(() => parseRate(text)).toThrow(expect.objectContaining({ code: 'invalid_config' }))
  },
)
