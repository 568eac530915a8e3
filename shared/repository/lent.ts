import { chunksOf, type OpenBlock } from './block-source.ts'
import type { Held } from './byte-cache.ts'
import type { Found } from './in-place.ts'
import { free } from './packing.mjs'
import type { Run } from './runs.ts'

/** Neighbouring chunks on their way to the user: each compared with its name. */
export interface LentPiece {
  /** Valid until the piece after the next is asked for, unless it is kept. */
  readonly bytes: Buffer
  readonly names: Buffer
  readonly chunks: number
  /** It lay where it is restored, and was not fetched. */
  readonly found: boolean
  keep(): void
}

/** What a piece lies in. */
type Lease = Pick<Held<unknown>, 'release' | 'leave'>

/** Pieces that the user may look at: the last one given out, and the one before. */
export class Lent {
  readonly #pieces: Array<{ readonly lease: Lease; kept: boolean }> = []

  async ofBlock(run: Run, held: Held<OpenBlock>): Promise<LentPiece> {
    const keep = this.#lend(held)
    const open = await held.value
    const bytes = chunksOf(open, run.block, run.first, run.count)
    const names = open.pack.directory.chunkNames(run.block, run.first, run.count)
    return { bytes, names, chunks: run.count, found: false, keep }
  }

  ofFound(run: Run, { bytes, names }: Found): LentPiece {
    const keep = this.#lend({ release: () => free(bytes), leave: () => undefined })
    return { bytes, names, chunks: run.count, found: true, keep }
  }

  /** Nobody asks any more, but who did may still look at these. */
  end(): void {
    for (const { lease } of this.#pieces.splice(0)) lease.leave()
  }

  #lend(lease: Lease): () => void {
    const lent = { lease, kept: false }
    this.#pieces.push(lent)
    if (this.#pieces.length > 2) {
      const last = this.#pieces.shift()
      if (last?.kept) last.lease.leave()
      else last?.lease.release()
    }
    return () => {
      lent.kept = true
    }
  }
}
