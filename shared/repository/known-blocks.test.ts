import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { keepKnown, openKnown } from './known.ts'
import { KnownDraft } from './known-draft.ts'
import { knownFile } from './known-file.ts'
import { temporaryFolder } from './testing/temporary-folders.ts'

test('blocks have as many chunks as the list was told, also where one has more than a byte counts', async () => {
  const [scratch, folder] = [temporaryFolder(), temporaryFolder()]
  const counts = [3, 255, 256, 4096, 1]
  const draft = new KnownDraft(scratch)
  counts.forEach((chunks, ref) => {
    for (let index = 0; index < chunks; index++) draft.addChunk(randomBytes(32), ref, index, 512)
  })
  const id = '20260101T020000Z-2345672345'
  draft.finish(
    {
      refs: Uint32Array.from(counts.keys()),
      limit: counts.length,
      isUsed: () => true,
      row: (ref) => ({ origin: 0, pack: 0, block: ref, chunks: counts[ref] as number }),
    },
    [],
    {
      gearKey: randomBytes(32),
      chunkUnit: null,
      origins: [{ host: 'db1', source: 'app', id, manifest_sha256: null, packs: ['packs/1-aaaaaaaaaaaaaaaa'], bytes: 0 }],
    },
  )
  draft.close()
  await keepKnown(scratch, folder, { id, manifestSha256: Buffer.alloc(32) })
  const known = await openKnown(folder, { id, manifestSha256: Buffer.alloc(32) })
  if (!known) throw new Error('the list cannot be opened')
  expect([...knownFile(known).blockChunks]).toEqual(counts)
  await known.close()
})
