import type { BackupPlaceRef } from '../manifest/layout.ts'
import { Directory } from './directory.ts'
import type { EarlierChunks } from './earlier-chunks.ts'
import { damaged, LIMITS, placeOf } from './format.ts'
import type { KnownDraft } from './known-draft.ts'
import type { OwnChunks } from './own-chunks.ts'
import type { UsablePack } from './packer.ts'
import type { Places } from './places.ts'
import type { EarlierAttempt } from './repository.ts'

/** Enters the chunks of an earlier attempt's confirmed packs, so that nothing is sent twice. */
export async function useEarlierPacks(options: {
  backup: BackupPlaceRef
  earlier: readonly EarlierAttempt[]
  packs: UsablePack[]
  places: Places
  own: OwnChunks
  beyond: EarlierChunks
  draft: KnownDraft
}): Promise<void> {
  const { places, own, beyond, draft } = options
  for (const attempt of options.earlier) {
    for await (const stored of attempt.packs) {
      const fail = (what: string) => damaged(`${placeOf(options.backup)}/${stored.name}`, `what the journal says of it: ${what}`)
      if (stored.chunks.length < 4) throw fail('it is too short')
      const directory = Directory.read(stored.chunks.subarray(4), stored.chunks.readUInt32LE(0), LIMITS.pack, fail)
      const { name, size, sha256 } = stored
      const pack = options.packs.push({ attempt: attempt.attempt, stored: { name, size, sha256 } }) - 1
      const refs = new Int32Array(directory.blocks).fill(-1)
      const isBeyond = !own.hasRoomFor(directory.chunks)
      for (let block = 0; block < directory.blocks; block++) {
        if (directory.kind(block) !== 'data') continue
        const ref = places.begin()
        refs[block] = ref
        places.place(ref, pack, block, directory.chunksOf(block))
        for (let n = 0; n < directory.chunksOf(block); n++) {
          const chunk = directory.chunkName(block, n)
          if (!isBeyond) own.add(chunk, ref, n)
          draft.addChunk(chunk, ref, n, directory.chunkLength(block, n))
        }
      }
      if (isBeyond) beyond.addPack(directory, refs)
    }
  }
}
