import { HoldfastError } from '../errors.ts'
import { MAX_OBJECT_BYTES } from './target.ts'

interface Described {
  readonly size: number
  readonly sha256: Buffer
}

/** One address, one PUT, no multipart: so a size above MAX_OBJECT_BYTES is refused, and a SHA-256 is always known. */
export function requireSignable(key: string, object: Described): void {
  if (Number.isSafeInteger(object.size) && object.size >= 0 && object.size <= MAX_OBJECT_BYTES && object.sha256.length === 32)
    return
  throw new HoldfastError('invalid_argument', `object ${key} of ${object.size} bytes cannot have an address`, {
    hint: `An object has at most ${MAX_OBJECT_BYTES} bytes and a SHA-256 of 32 bytes.`,
  })
}
