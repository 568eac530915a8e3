import { type BlockSource, chunkOf, type OpenBlock } from './block-source.ts'
import type { BodyRecord } from './body-reader.ts'
import type { Run } from './runs.ts'

export type Piece = { readonly bytes: Buffer; readonly name: Buffer } | { readonly hole: number }

/** Records that are looked at ahead, so that neighbouring blocks are fetched at once and the next ones while these are used. */
const AHEAD = 32
const PARALLEL = 4

/** Chunks and holes in order. Each chunk has been compared with its name. */
export async function* readChunks(blocks: BlockSource, records: AsyncIterable<BodyRecord>): AsyncGenerator<Piece> {
  for await (const batch of batches(records)) {
    const opened: Array<Promise<OpenBlock> | null> = []
    for (let n = 0; n < batch.length; n++) {
      while (opened.length < Math.min(batch.length, n + PARALLEL)) opened.push(open(blocks, batch, opened.length))
      const record = batch[n] as BodyRecord
      if (record.kind === 'hole') yield { hole: record.length }
      else if (record.kind === 'run') yield* chunks((await opened[n]) as OpenBlock, record.run)
      opened[n] = null
    }
  }
}

function open(blocks: BlockSource, batch: readonly BodyRecord[], n: number): Promise<OpenBlock> | null {
  const record = batch[n] as BodyRecord
  if (record.kind !== 'run') return null
  const { origin, pack, block } = record.run
  const opened = blocks.block(origin, pack, block, lastNeighbour(batch, n))
  // it is awaited when its turn comes; until then its failure is not unhandled
  opened.catch(() => undefined)
  return opened
}

/** The last block that the following runs want of the same pack without leaving one out. */
function lastNeighbour(batch: readonly BodyRecord[], n: number): number {
  const { run } = batch[n] as BodyRecord & { kind: 'run' }
  let last = run.block
  for (const next of batch.slice(n + 1)) {
    if (next.kind !== 'run') continue
    const { origin, pack, block } = next.run
    if (origin !== run.origin || pack !== run.pack || block < last || block > last + 1) break
    last = block
  }
  return last
}

function* chunks(block: OpenBlock, run: Run): Generator<Piece> {
  for (let n = run.first; n < run.first + run.count; n++) {
    yield { bytes: chunkOf(block, run.block, n), name: block.pack.directory.chunkName(run.block, n) }
  }
}

async function* batches(records: AsyncIterable<BodyRecord>): AsyncGenerator<BodyRecord[]> {
  let batch: BodyRecord[] = []
  for await (const record of records) {
    batch.push(record)
    if (batch.length < AHEAD) continue
    yield batch
    batch = []
  }
  if (batch.length > 0) yield batch
}
