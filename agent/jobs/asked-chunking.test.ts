import { expect, test } from 'vitest'
import { askedChunking } from './asked-chunking.ts'

test('a command may ask for pages or an average that the format has, and for nothing else', () => {
  expect(askedChunking({ pageBytes: 0, averageChunkBytes: 0 })).toEqual({})
  expect(askedChunking({ pageBytes: 8192, averageChunkBytes: 0 })).toEqual({ chunking: { kind: 'fixed', bytes: 8192 } })
  expect(askedChunking({ pageBytes: 0, averageChunkBytes: 1_048_576 })).toEqual({
    chunking: { kind: 'content-defined', averageBytes: 1_048_576 },
  })
  for (const [pageBytes, averageChunkBytes] of [
    [8192, 8192],
    [2048, 0],
    [0, 2 ** 21],
    [5000, 0],
    [0, 1],
  ] as const)
    expect(() => askedChunking({ pageBytes, averageChunkBytes })).toThrow('asks for chunks of')
})
