import { expect, test } from 'vitest'
import { chunksSchema, finestChunking } from './chunks.ts'

test('chunks are pages or content-defined, of a size that the format has', () => {
  expect(chunksSchema.parse({ pages: '8KiB' })).toEqual({ pages: '8KiB' })
  expect(chunksSchema.parse({ average: '1MiB' })).toEqual({ average: '1MiB' })
  for (const wrong of [
    {},
    { pages: '8KiB', average: '64KiB' },
    { pages: '9KiB' },
    { average: '2MiB' },
    { pages: 8192 },
    { page: '8KiB' },
  ])
    expect(chunksSchema.safeParse(wrong).success, JSON.stringify(wrong)).toBe(false)
})

test('of several policies the finest cuts, pages before content-defined chunks', () => {
  expect(finestChunking([])).toBeNull()
  expect(finestChunking([{ average: '256KiB' }, { average: '64KiB' }])).toEqual({ kind: 'content-defined', averageBytes: 65_536 })
  expect(finestChunking([{ average: '4KiB' }, { pages: '16KiB' }, { pages: '8KiB' }])).toEqual({ kind: 'fixed', bytes: 8192 })
})
