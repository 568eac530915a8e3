import { HoldfastError } from '../../shared/errors.ts'

/** Cursors of lists that are in the order of one key: a name, an id, a number. */

const KEY = /^[\x21-\x7e]{1,200}$/

/** The key after which the page begins; undefined for the first. */
export function keyCursor(cursor: string | null | undefined): string | undefined {
  if (cursor === null || cursor === undefined) return undefined
  const key = Buffer.from(cursor, 'base64url').toString('utf8')
  if (key.startsWith('k:') && KEY.test(key)) return key.slice(2)
  throw new HoldfastError('invalid_argument', 'the cursor is not one that this list gave', {
    hint: 'Pass next_cursor of the page before unchanged, or leave the cursor out to begin again.',
  })
}

/** `items` has one more than the page when there is another page. */
export function keyPage<Item>(
  items: readonly Item[],
  limit: number,
  key: (item: Item) => string,
): { items: Item[]; next_cursor: string | null } {
  const shown = items.slice(0, limit)
  const last = shown.at(-1)
  if (items.length <= limit || last === undefined) return { items: shown, next_cursor: null }
  return { items: shown, next_cursor: Buffer.from(`k:${key(last)}`).toString('base64url') }
}
