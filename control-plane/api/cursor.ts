import { z } from 'zod'
import { HoldfastError } from '../../shared/errors.ts'
import type { Page, PageRequest, Position } from './schemas/common.ts'

const positionSchema = z
  .array(
    z
      .string()
      .max(200)
      .regex(/^[\x20-\x7e]*$/),
  )
  .min(1)
  .max(3)

/** The query of a list as a page request. A cursor that was not made here throws `invalid_argument`. */
export function pageRequest(query: { limit: number; cursor?: string | undefined }): PageRequest {
  return { limit: query.limit, after: query.cursor === undefined ? null : decode(query.cursor) }
}

export function pageAnswer<Item>(page: Page<Item>): { items: Item[]; next_cursor: string | null } {
  return {
    items: [...page.items],
    next_cursor: page.next === null ? null : Buffer.from(JSON.stringify(page.next)).toString('base64url'),
  }
}

function decode(cursor: string): Position {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'))
  } catch (cause) {
    throw wrongCursor(cause)
  }
  const parsed = positionSchema.safeParse(value)
  if (!parsed.success) throw wrongCursor(parsed.error)
  return parsed.data
}

export function wrongCursor(cause?: unknown): HoldfastError {
  return new HoldfastError('invalid_argument', 'the cursor is not one of this list', {
    hint: 'Pass next_cursor of the page before unchanged, or leave cursor out to begin at the first page.',
    cause,
  })
}
