import { type Column, like, or, type SQL, sql } from 'drizzle-orm'
import { HoldfastError } from '../../shared/errors.ts'

export interface Page<T> {
  readonly items: T[]
  readonly next_cursor: string | null
}

export interface PageQuery {
  /** 1 to 1000; 50 when left out. */
  readonly limit?: number
  readonly cursor?: string | null
}

export const pageLimit = (query: PageQuery): number => Math.min(1000, Math.max(1, query.limit ?? 50))

/** Newest first, the id between two of one millisecond. Ours are written with millisecond clocks, so no row is passed over. */
export function afterCursor(cursor: string | null | undefined, at: Column, id: Column): SQL | undefined {
  if (!cursor) return undefined
  const [time, key] = decode(cursor)
  return sql`(${at}, ${id}) < (${time}::timestamptz, ${key})`
}

/** Cuts the row that was read beyond the limit, which only says that there is more. */
export function page<T>(rows: T[], limit: number, position: (row: T) => { at: Date; id: string }): Page<T> {
  const items = rows.slice(0, limit)
  const last = items.at(-1)
  if (rows.length <= limit || last === undefined) return { items, next_cursor: null }
  const { at, id } = position(last)
  return { items, next_cursor: Buffer.from(JSON.stringify([at.toISOString(), id])).toString('base64url') }
}

/** Ids that begin or end so. What no id can hold is refused, and with it what means something to LIKE. */
export function idLike(id: Column, text: string | undefined): SQL | undefined {
  if (text === undefined) return undefined
  if (/^[0-9A-Za-z-]{1,40}$/.test(text)) return or(like(id, `${text}%`), like(id, `%${text}`))
  throw new HoldfastError('invalid_argument', `${JSON.stringify(text.slice(0, 40))} is no part of an id`)
}

function decode(cursor: string): [string, string] {
  try {
    const value: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString())
    if (Array.isArray(value) && value.length === 2) {
      const [time, id] = value
      if (typeof time === 'string' && typeof id === 'string' && !id.includes('\0') && !Number.isNaN(Date.parse(time)))
        return [new Date(time).toISOString(), id]
    }
  } catch {
    // not JSON: refused below like everything else that is not ours
  }
  throw new HoldfastError('invalid_argument', 'the cursor is not one that this list gave', {
    hint: 'Pass next_cursor of the page before unchanged, or leave the cursor out to begin again.',
  })
}
