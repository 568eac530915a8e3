import { createHash } from 'node:crypto'
import { pipeline } from 'node:stream/promises'
import type { StorageTarget } from '../../shared/storage/target.ts'

export type Stored = 'same' | 'absent' | 'of another size' | 'other bytes'

/**
 * What a store has under a key, compared with what was to be put there. A service that keeps no SHA-256 says nothing of the bytes, and perhaps
 * compared nothing when they came: then they are read, since otherwise the sender's word alone would be believed.
 */
export async function compareStored(
  target: Pick<StorageTarget, 'head' | 'getStream'>,
  key: string,
  wanted: { readonly size: number; readonly sha256: Buffer },
  signal?: AbortSignal,
): Promise<Stored> {
  const head = await target.head(key, signal)
  if (!head) return 'absent'
  if (head.size !== wanted.size) return 'of another size'
  const sha256 = head.sha256 ?? (await hashOf(target, key, signal))
  return sha256.equals(wanted.sha256) ? 'same' : 'other bytes'
}

async function hashOf(target: Pick<StorageTarget, 'getStream'>, key: string, signal?: AbortSignal): Promise<Buffer> {
  const hash = createHash('sha256')
  await pipeline(await target.getStream(key, { signal }), hash)
  return hash.digest()
}
