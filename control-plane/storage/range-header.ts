import { HoldfastError } from '../../shared/errors.ts'

/**
 * The one range of a Range header (RFC 9110, 14.1.2), cut at the object's end. Throws `out_of_range` for one that begins behind it, and for
 * several ranges or another unit, which no agent asks for.
 */
export function parseRange(header: string | undefined, size: number): 'whole' | { offset: number; length: number } {
  if (header === undefined) return 'whole'
  const [, from = '', to = ''] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header) ?? []
  if (from === '' && to === '') throw unsatisfiable(size)
  const first = from === '' ? Math.max(0, size - Number(to)) : Number(from)
  const last = from === '' || to === '' ? size - 1 : Math.min(Number(to), size - 1)
  if (first >= size || last < first) throw unsatisfiable(size)
  return { offset: first, length: last - first + 1 }
}

function unsatisfiable(size: number): HoldfastError {
  return new HoldfastError('out_of_range', `the range asked for is not in an object of ${size} bytes`)
}
