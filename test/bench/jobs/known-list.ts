import { randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { keepKnown } from '../../../shared/repository/known.ts'
import { KnownDraft } from '../../../shared/repository/known-draft.ts'
import { noiseOf } from '../corpora/noise.ts'

// Writes a list of so many known chunks, as a source of that many chunks of 64 KiB would have left it, by the writer of such lists. Arguments: an empty
// folder to work in, the folder of the list, its backup's id, how many.

const [, , scratch = '', folder = '', id = '', count = ''] = process.argv
const CHUNKS_PER_BLOCK = 16
/** Of 16 MiB, of blocks that compress to a third. */
const BLOCKS_PER_PACK = 48
const AT_ONCE = 32_768

const chunks = Number(count)
const blocks = Math.ceil(chunks / CHUNKS_PER_BLOCK)
const names = noiseOf(1, 9)
const draft = new KnownDraft(scratch)
for (let done = 0; done < chunks; done += AT_ONCE) {
  const drawn = names(32 * Math.min(AT_ONCE, chunks - done))
  for (let n = 0; n < drawn.length / 32; n++) {
    const chunk = done + n
    const name = drawn.subarray(32 * n, 32 * n + 32)
    draft.addChunk(name, Math.floor(chunk / CHUNKS_PER_BLOCK), chunk % CHUNKS_PER_BLOCK, 65_536)
  }
}
const packs = Array.from({ length: Math.ceil(blocks / BLOCKS_PER_PACK) }, () => `packs/1-${randomBytes(16).toString('hex')}`)
draft.finish(
  {
    refs: Uint32Array.from({ length: blocks }, (_, n) => n),
    limit: blocks,
    isUsed: () => true,
    row: (ref) => ({
      origin: 0,
      pack: Math.floor(ref / BLOCKS_PER_PACK),
      block: ref % BLOCKS_PER_PACK,
      chunks: Math.min(CHUNKS_PER_BLOCK, chunks - ref * CHUNKS_PER_BLOCK),
    }),
  },
  [],
  {
    gearKey: randomBytes(32),
    chunkUnit: null,
    origins: [{ host: 'db1', source: 'app', id, manifest_sha256: null, packs, bytes: 0 }],
  },
)
draft.close()
await mkdir(folder, { recursive: true })
await keepKnown(scratch, folder, { id, manifestSha256: Buffer.alloc(32) })
