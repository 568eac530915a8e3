import { z } from 'zod'

export type JsonRead<T> = { readonly success: true; readonly data: T } | { readonly success: false; readonly error: Error }

/**
 * A few kilobytes of compressed text can stand for tens of millions of empty lists, and each of those costs sixty bytes of heap. So values are
 * counted before they are parsed (FORMAT.md, 14): as many as there are of `,`, `[` and `{`, in strings too.
 */
export const MAX_JSON_VALUES = 1_000_000

/** Text that may be anything, as what the schema says, or why it is not: no JSON at all, too many values, or JSON of another shape. */
export function readJson<S extends z.ZodType>(text: string | Buffer, schema: S): JsonRead<z.output<S>> {
  let value: unknown
  try {
    value = parseJson(text)
  } catch (error) {
    return { success: false, error: error as Error }
  }
  return schema.safeParse(value)
}

/** Throws a SyntaxError that repeats nothing of the text. */
export function parseJson(text: string | Buffer): unknown {
  if (hasTooManyValues(text)) throw new SyntaxError(`${text.length} characters or bytes with more than ${MAX_JSON_VALUES} values`)
  try {
    return JSON.parse(text.toString('utf8'))
  } catch {
    // the parser's own message repeats a piece of the text, which may be a secret
    throw new SyntaxError(`${text.length} characters or bytes that are not JSON`)
  }
}

export function hasTooManyValues(text: string | Buffer): boolean {
  if (text.length <= MAX_JSON_VALUES) return false
  let values = 0
  const bytes = typeof text === 'string' ? Buffer.from(text) : text
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]
    if (byte === COMMA || byte === BRACKET || byte === BRACE) values++
  }
  return values > MAX_JSON_VALUES
}
const COMMA = 0x2c
const BRACKET = 0x5b
const BRACE = 0x7b

/** A long list out of untrusted JSON. z.array would keep an issue for each of a million wrong rows; this gives up at the first. */
export const listOf = <S extends z.ZodType>(row: S, most: number) =>
  z
    .array(z.unknown())
    .max(most)
    .transform((list, context): Array<z.output<S>> => {
      const rows: Array<z.output<S>> = []
      for (const [n, one] of list.entries()) {
        const read = row.safeParse(one)
        if (!read.success) return refuse(read.error, n, context)
        rows.push(read.data)
      }
      return rows
    })

/** The same for an object of many names. It comes back itself: z.record would make another of them. */
export const mapOf = <S extends z.ZodType>(value: S) =>
  z
    .custom<Record<string, unknown>>(isMap, 'an object of names and values is expected')
    .transform((map, context): Record<string, z.output<S>> => {
      for (const name of Object.keys(map)) {
        const read = value.safeParse(map[name])
        if (!read.success) return refuse(read.error, name, context)
      }
      return map as Record<string, z.output<S>>
    })

const isMap = (value: unknown): boolean => typeof value === 'object' && value !== null && !Array.isArray(value)

function refuse(error: z.ZodError, at: string | number, context: z.RefinementCtx): never {
  const [first] = error.issues
  context.addIssue({ code: 'custom', message: first?.message ?? 'not of the shape', path: [at, ...(first?.path ?? [])] })
  return z.NEVER
}
