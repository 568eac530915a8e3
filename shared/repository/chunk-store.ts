import type { BlockPipeline } from './block-pipeline.ts'
import type { EarlierChunks } from './earlier-chunks.ts'
import { LIMITS, TARGETS } from './format.ts'
import type { KnownDraft } from './known-draft.ts'
import type { KnownFile } from './known-file.ts'
import type { ChunkPlace, OwnChunks } from './own-chunks.ts'
import type { Effort } from './packing.mjs'
import type { Places } from './places.ts'
import type { WriterTotals } from './repository.ts'
import type { Resend } from './resend.ts'
import { RunningSum } from './sums.mjs'

export interface ChunkStoreOptions {
  readonly places: Places
  readonly pipeline: BlockPipeline
  readonly own: OwnChunks
  readonly earlier: EarlierChunks
  readonly known: KnownFile | null
  readonly resend: Resend | null
  readonly draft: KnownDraft
  readonly totals: { -readonly [Key in keyof WriterTotals]: WriterTotals[Key] }
}

/** Finds chunks that are there already, and puts new ones into blocks. Shared by all artifacts of a backup. */
export class ChunkStore {
  readonly options: ChunkStoreOptions
  /** Blocks that are being filled, by number. */
  readonly #open = new Map<number, BlockFiller>()

  constructor(options: ChunkStoreOptions) {
    this.options = options
  }

  /** Where the chunk of this name lies: found, or stored through `filler`. `chunk` is not kept. */
  put(name: Buffer, chunk: Buffer, filler: BlockFiller): ChunkPlace {
    const { own, totals, draft } = this.options
    totals.chunks++
    const found = this.#find(name, chunk.length)
    if (found) {
      totals.chunksSkipped++
      totals.skippedBytes += chunk.length
      // another artifact's open block may stay open for hours; a run into it could not be written until then
      const holder = this.#open.get(found.ref)
      if (holder && holder !== filler) holder.flush()
      return found
    }
    const place = filler.add(name, chunk)
    own.add(name, place.ref, place.index)
    draft.addChunk(name, place.ref, place.index, chunk.length)
    return place
  }

  opened(ref: number, filler: BlockFiller): void {
    this.#open.set(ref, filler)
  }
  closed(ref: number): void {
    this.#open.delete(ref)
  }

  #find(name: Buffer, length: number): ChunkPlace | null {
    const { own, earlier, known, resend, totals } = this.options
    const mine = own.get(name) ?? earlier.get(name)
    if (mine) return mine
    const hit = known?.find(name)
    if (!hit || hit.length !== length) return null
    if (!resend?.take(hit.ref, length)) return hit
    totals.resentBytes += length
    return null
  }
}

/** Fills blocks with the chunks of one artifact. */
export class BlockFiller {
  readonly #store: ChunkStore
  readonly #effort: Effort
  #block: { ref: number; buffer: Buffer; fill: number; sum: RunningSum; lengths: number[]; names: Buffer[] } | null = null

  constructor(store: ChunkStore, effort: Effort) {
    this.#store = store
    this.#effort = effort
  }

  add(name: Buffer, chunk: Buffer): ChunkPlace {
    const { places, pipeline } = this.#store.options
    const full = this.#block && this.#block.fill + chunk.length > this.#block.buffer.length
    if (full || this.#block?.lengths.length === LIMITS.chunksPerBlock) this.flush()
    if (!this.#block) {
      const buffer = chunk.length > TARGETS.block ? Buffer.allocUnsafeSlow(chunk.length) : pipeline.takeBuffer()
      this.#block = { ref: places.begin(), buffer, fill: 0, sum: new RunningSum(), lengths: [], names: [] }
      this.#store.opened(this.#block.ref, this)
    }
    const block = this.#block
    // of the bytes that were named just now, not of their copy
    block.sum.add(chunk)
    block.fill += chunk.copy(block.buffer, block.fill)
    block.names.push(name)
    return { ref: block.ref, index: block.lengths.push(chunk.length) - 1 }
  }

  flush(): void {
    const block = this.#block
    if (!block) return
    this.#block = null
    this.#store.closed(block.ref)
    this.#store.options.pipeline.submit({
      ref: block.ref,
      kind: 'data',
      buffer: block.buffer,
      length: block.fill,
      sum: block.sum.end(),
      effort: this.#effort,
      lengths: Uint32Array.from(block.lengths),
      names: Buffer.concat(block.names),
    })
  }
}
