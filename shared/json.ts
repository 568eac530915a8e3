import type { z } from 'zod'

export type JsonRead<T> = { readonly success: true; readonly data: T } | { readonly success: false; readonly error: Error }

/** Text that may be anything, as what the schema says, or why it is not: no JSON at all, or JSON of another shape. */
export function readJson<S extends z.ZodType>(text: string | Buffer, schema: S): JsonRead<z.output<S>> {
  let value: unknown
  try {
    value = JSON.parse(text.toString('utf8'))
  } catch {
    // the parser's own message repeats a piece of the text, which may be a secret
    return { success: false, error: new SyntaxError(`${text.length} characters or bytes that are not JSON`) }
  }
  return schema.safeParse(value)
}
