import { inspect } from 'node:util'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { readJson } from './json.ts'

const schema = z.strictObject({ key: z.string().length(4) })

test('a value of the shape comes back, from text and from bytes', () => {
  expect(readJson('{"key":"abcd"}', schema)).toEqual({ success: true, data: { key: 'abcd' } })
  expect(readJson(Buffer.from('{"key":"abcd"}'), schema)).toEqual({ success: true, data: { key: 'abcd' } })
})

test('what is no JSON is told from JSON of another shape', () => {
  const none = readJson('{"key":', schema)
  expect(none).toMatchObject({ success: false, error: expect.any(SyntaxError) })
  const other = readJson('{"key":7}', schema)
  expect(other).toMatchObject({ success: false, error: expect.any(z.ZodError) })
})

test('why it was refused repeats nothing of the text, which may be a secret', () => {
  for (const text of ['hunter22', '{"key":hunter22}', '{"key":"hunter22"', '{"key":"hunter22"}', '{"key":"abcd","hunter22":1}']) {
    const read = readJson(text, schema)
    const shown = inspect(read, { depth: 10 })
    if (!text.includes('"hunter22":')) expect(shown).not.toContain('hunter')
    expect(read.success).toBe(false)
  }
})
