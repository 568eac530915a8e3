import { HoldfastError } from '../errors.ts'

const SEGMENT = /^[A-Za-z0-9._-]{1,255}$/
/** S3's limit is 1024 bytes for the whole key; the rest is left to the target's own prefix. */
const MAX_KEY_LENGTH = 768

function validSegments(path: string): boolean {
  return path.split('/').every((segment) => SEGMENT.test(segment) && segment !== '.' && segment !== '..')
}

/** True for a key that a target may hold. Listings leave out everything else, since nobody could ask for it. */
export function isKey(key: string): boolean {
  return key.length <= MAX_KEY_LENGTH && validSegments(key)
}

/** Returns the key, or throws `invalid_name`. Every call of a target that takes a key begins with this. */
export function requireKey(key: string): string {
  if (isKey(key)) return key
  throw new HoldfastError('invalid_name', `object key ${quote(key)} is not allowed`, {
    hint: 'Use segments of A-Z, a-z, 0-9, dot, underscore and hyphen, separated by single slashes, none of them "." or "..".',
  })
}

/** Returns the prefix, which is empty or a whole number of segments that ends with "/", or throws `invalid_name`. */
export function requirePrefix(prefix: string): string {
  if (prefix === '' || (prefix.endsWith('/') && isKey(prefix.slice(0, -1)))) return prefix
  throw new HoldfastError('invalid_name', `object prefix ${quote(prefix)} is not allowed`, {
    hint: 'Give an empty prefix, or whole segments that end with a slash.',
  })
}

/** Foreign text in a message is bounded and has no control characters. */
function quote(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}...` : text)
}
