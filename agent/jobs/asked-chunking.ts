import type { Chunking } from '../../shared/artifacts.ts'
import { HoldfastError } from '../../shared/errors.ts'
import type { BackupWork } from '../../shared/generated/holdfast/agent/v1/jobs.ts'

type Asked = Pick<BackupWork, 'pageBytes' | 'averageChunkBytes'>

/** What a policy wants in place of the engine's own. Throws `invalid_argument` for what the format has no chunks of. */
export function askedChunking({ pageBytes, averageChunkBytes }: Asked): { readonly chunking?: Chunking } {
  if (pageBytes === 0 && averageChunkBytes === 0) return {}
  const bytes = pageBytes + averageChunkBytes
  const isPowerOfTwo = Number.isInteger(Math.log2(bytes))
  if ((pageBytes > 0 && averageChunkBytes > 0) || !isPowerOfTwo || bytes < 4096 || bytes > 1_048_576)
    throw new HoldfastError('invalid_argument', `the command asks for chunks of ${pageBytes} and ${averageChunkBytes} bytes`, {
      hint: 'Pages or averages are powers of two from 4 KiB to 1 MiB, and one of the two at most is given.',
    })
  return { chunking: pageBytes > 0 ? { kind: 'fixed', bytes } : { kind: 'content-defined', averageBytes: bytes } }
}
