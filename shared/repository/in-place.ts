import { hash } from 'node:crypto'
import type { EarlierFile, EarlierTree, TreeEntry } from '../artifacts.ts'
import { type BlockSource, endsOf } from './block-source.ts'
import type { BodyRecord } from './body-reader.ts'
import type { Directory } from './directory.ts'
import { free } from './packing.mjs'
import type { Run } from './runs.ts'

/** Neighbouring chunks that were found where they are restored, each compared with its name. */
export interface Found {
  readonly bytes: Buffer
  readonly names: Buffer
}

/** Bytes that may be those of a run, until they are compared. */
export interface Look {
  readonly length: number
  readonly found: Promise<Found | null>
}

/**
 * Looks whether what a body says lies already where it is restored. Of a pack whose chunks are all there no more is fetched than its end, which says how long they
 * are and what they are called. A run is found as a whole or not at all: its chunks lie in one block, which would have to be fetched for any of them.
 */
export class InPlace {
  readonly #blocks: BlockSource
  readonly #earlier: EarlierTree
  #entry: TreeEntry | null = null
  #files: readonly EarlierFile[] = []
  #offset = 0

  constructor(blocks: BlockSource, earlier: EarlierTree) {
    this.#blocks = blocks
    this.#earlier = earlier
  }

  /** A run or hole of the content of `entry`: in their order, from the first on, one at a time. */
  async look(entry: TreeEntry, record: BodyRecord): Promise<Look | null> {
    if (entry !== this.#entry) {
      this.close()
      this.#entry = entry
      this.#offset = 0
      this.#files = this.#earlier.open(entry)
    }
    if (this.#files.length === 0) return null
    if (record.kind === 'hole') this.#offset += record.length
    return record.kind === 'run' ? this.#run(record.run) : null
  }

  /** No look may be under way. */
  close(): void {
    for (const file of this.#files) file.close()
    this.#files = []
  }

  async #run(run: Run): Promise<Look | null> {
    const { directory } = await this.#blocks.pack(run.origin, run.pack)
    // what the pack does not have is told by whoever fetches it
    if (run.block >= directory.blocks || run.first + run.count > directory.chunksOf(run.block)) return null
    const ends = endsOf(directory, run)
    const length = ends.at(-1) as number
    const offset = this.#offset
    this.#offset += length
    this.#leave(this.#offset)
    for (const file of this.#files) {
      const bytes = await readAlike(file, offset, ends, directory.chunkName(run.block, run.first))
      if (!bytes) continue
      const found = this.#compare(bytes, ends, directory.chunkNames(run.block, run.first, run.count))
      // it is awaited when its turn comes; until then its failure is not unhandled
      found.catch(() => undefined)
      return { length, found }
    }
    return null
  }

  /** Files that end before `end` hold nothing of what comes. */
  #leave(end: number): void {
    if (this.#files.every(({ size }) => size >= end)) return
    for (const file of this.#files) if (file.size < end) file.close()
    this.#files = this.#files.filter(({ size }) => size >= end)
  }

  /** The hashes are of the memory that is given out: whatever becomes of the file meanwhile, these are the bytes. */
  async #compare(bytes: Buffer, ends: Uint32Array, names: Buffer): Promise<Found | null> {
    if (ends.length === 1) return { bytes, names }
    const opened = await this.#blocks.hashed(bytes, ends)
    if (opened.names.equals(names)) return { bytes: opened.plain, names }
    free(opened.plain)
    return null
  }
}

/** Of a run whose first chunk is another one no more is read than that. */
async function readAlike(file: EarlierFile, offset: number, ends: Uint32Array, name: Directory['names']): Promise<Buffer | null> {
  // alone in its memory, which is handed to a thread
  const bytes = Buffer.allocUnsafeSlow(ends.at(-1) as number)
  const first = bytes.subarray(0, ends[0])
  if (!(await file.read(first, offset)) || !hash('sha256', first, 'buffer').equals(name)) return null
  return ends.length === 1 || (await file.read(bytes.subarray(first.length), offset + first.length)) ? bytes : null
}
