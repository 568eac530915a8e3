import type { TreeEntry } from '../artifacts.ts'
import { type BlockSource, chunksOf, type OpenBlock } from './block-source.ts'
import type { BodyRecord } from './body-reader.ts'
import type { Held } from './byte-cache.ts'
import { codecThreads } from './codec-threads.ts'
import { MIB } from './format.ts'
import type { Run } from './runs.ts'

export type Piece =
  | { readonly hole: number }
  | {
      /** Neighbouring chunks, each compared with its name. Valid until the piece after the next is asked for, unless it is kept. */
      readonly bytes: Buffer
      readonly names: Buffer
      readonly chunks: number
      keep(): void
    }

/** Records that are looked at ahead, so that neighbouring blocks are fetched at once: those of a few hundred small files. */
const RECORDS = 1024
/** Bytes of entries among them; hostile attributes are large. */
const ENTRIES = 2 * MIB
/** Sealed bytes that are fetched ahead of what is used: several ranges under way, whatever the distance to the store. */
const SEALED = 8 * MIB
/** Blocks that are open or being opened: every thread has one to do, and two are at hand. */
const OPEN = codecThreads() + 2

type Entry = BodyRecord & { readonly kind: 'entry' }

interface Item {
  readonly record: BodyRecord
  /** Counts the blocks of the content, one up wherever a run is of another block than the one before. */
  readonly ordinal: number
  readonly weight: number
  prepared: boolean
  sealed: number
  failure: { readonly error: unknown } | null
  held: Held<OpenBlock> | null
}

/**
 * Reads a body ahead of whoever uses its content: fetches and opens the next blocks while this one is used. What it holds is bounded by the
 * constants above, and nothing is fetched before content is asked for. For one user, who may leave content out.
 */
export class ReadAhead {
  readonly #blocks: BlockSource
  readonly #records: AsyncIterator<BodyRecord>
  /** The first `#opened` of it are open, the first `#prepared` are on their way. */
  readonly #queue: Item[] = []
  #prepared = 0
  #opened = 0
  #sealed = 0
  #weight = 0
  #ordinal = 0
  #run: Run | null = null
  #eager = false
  #ended = false
  #closed = false
  #failure: { readonly error: unknown } | null = null
  /** The entry whose content is next. */
  #current: TreeEntry | null = null
  readonly #lent = new Lent()
  readonly #waiting: Array<() => void> = []

  constructor(blocks: BlockSource, records: AsyncIterable<BodyRecord>) {
    this.#blocks = blocks
    this.#records = records[Symbol.asyncIterator]()
    void this.#work()
  }

  /** The next entry; content before it that nobody took is left out. */
  async entry(): Promise<Entry | null> {
    this.#current = null
    for (let item = await this.#head(); item; item = await this.#head()) {
      this.#shift()
      if (item.record.kind === 'entry') {
        this.#current = item.record.entry
        return item.record
      }
      // whoever leaves content out may go on doing so
      this.#eager = false
      item.held?.release()
    }
    return null
  }

  /** Whether `entry` was the last one, so that its content ended where `content` did. */
  isAt(entry: TreeEntry): boolean {
    return !this.#closed && this.#current === entry
  }

  /** The content of the entry that came last, or of a body without entries. It ends early when another entry is asked for meanwhile. */
  async *content(of: TreeEntry | null = null): AsyncGenerator<Piece> {
    for (;;) {
      if (this.#closed || this.#current !== of) return
      this.#eager = true
      this.#changed()
      const item = await this.#ready(of)
      if (!item) return
      if (item.record.kind === 'hole') yield { hole: item.record.length }
      else if (item.record.kind === 'run' && item.held) yield await this.#lent.piece(item.record.run, item.held)
    }
  }

  close(): void {
    this.#closed = true
    for (const { held } of this.#queue.splice(0)) held?.release()
    this.#lent.end()
    this.#changed()
  }

  /** The next record of the content, taken out of the queue and on its way to be open. */
  async #ready(of: TreeEntry | null): Promise<Item | null> {
    for (;;) {
      const item = await this.#head()
      if (!item || item.record.kind === 'entry' || this.#closed || this.#current !== of) return null
      if (item.failure) throw item.failure.error
      if (item.prepared) {
        this.#open()
        this.#shift()
        return item
      }
      await this.#change()
    }
  }

  /** The first of the queue; null at the end. */
  async #head(): Promise<Item | null> {
    for (;;) {
      if (this.#closed) return null
      const item = this.#queue[0]
      if (item) return item
      if (this.#failure) throw this.#failure.error
      if (this.#ended) return null
      await this.#change()
    }
  }

  #shift(): void {
    const item = this.#queue.shift()
    if (!item) return
    this.#weight -= item.weight
    this.#sealed -= item.sealed
    if (item.prepared) this.#prepared--
    if (this.#opened > 0) this.#opened--
    this.#changed()
  }

  /** Never throws: what fails is told in its turn. */
  async #work(): Promise<void> {
    while (!this.#closed) {
      if (!this.#ended && this.#queue.length < RECORDS && this.#weight < ENTRIES) await this.#pull()
      else if (this.#eager && this.#prepared < this.#queue.length && this.#sealed < SEALED) await this.#prepare()
      else if (this.#ended && this.#prepared === this.#queue.length) return
      else await this.#change()
    }
  }

  async #pull(): Promise<void> {
    try {
      const { done, value: record } = await this.#records.next()
      if (done) this.#ended = true
      else this.#push(record)
    } catch (error) {
      this.#failure = { error }
      this.#ended = true
    }
    this.#changed()
  }

  #push(record: BodyRecord): void {
    if (this.#closed) return
    if (record.kind === 'run') {
      if (!this.#run || !sameBlock(this.#run, record.run)) this.#ordinal++
      this.#run = record.run
    }
    const weight = record.kind === 'entry' ? weightOf(record.entry) : 0
    this.#weight += weight
    this.#queue.push({ record, ordinal: this.#ordinal, weight, prepared: false, sealed: 0, failure: null, held: null })
  }

  async #prepare(): Promise<void> {
    const at = this.#prepared
    const item = this.#queue[at] as Item
    const { record } = item
    // the same block again takes no more room
    const before = at > 0 && this.#queue[at - 1]?.ordinal === item.ordinal
    if (record.kind === 'run' && !before) {
      const { origin, pack, block } = record.run
      try {
        item.sealed = await this.#blocks.prepare(origin, pack, block, this.#lastNeighbour(record.run, at))
      } catch (error) {
        item.failure = { error }
      }
    }
    // it may have been left out meanwhile
    if (this.#queue[this.#prepared] !== item) return
    item.prepared = true
    this.#prepared++
    this.#sealed += item.sealed
    this.#open()
    this.#changed()
  }

  /** The last block that the following runs want of the same pack without leaving one out. */
  #lastNeighbour(run: Run, at: number): number {
    let last = run.block
    for (let n = at + 1; n < this.#queue.length; n++) {
      const next = (this.#queue[n] as Item).record
      if (next.kind !== 'run') continue
      const { origin, pack, block } = next.run
      if (origin !== run.origin || pack !== run.pack || block < last || block > last + 1) break
      last = block
    }
    return last
  }

  #open(): void {
    const end = (this.#queue[0]?.ordinal ?? 0) + OPEN
    for (; this.#opened < this.#prepared; this.#opened++) {
      const item = this.#queue[this.#opened] as Item
      if (item.ordinal >= end) return
      if (item.record.kind !== 'run' || item.failure) continue
      const { origin, pack, block } = item.record.run
      item.held = this.#blocks.hold(origin, pack, block, block)
      // it is awaited when its turn comes; until then its failure is not unhandled
      item.held.value.catch(() => undefined)
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  #changed(): void {
    for (const wake of this.#waiting.splice(0)) wake()
  }
}

/** Pieces that the user may look at: the last one given out, and the one before. */
class Lent {
  readonly #pieces: Array<{ readonly held: Held<OpenBlock>; kept: boolean }> = []

  async piece(run: Run, held: Held<OpenBlock>): Promise<Piece> {
    const lent = { held, kept: false }
    this.#pieces.push(lent)
    if (this.#pieces.length > 2) {
      const last = this.#pieces.shift()
      if (last?.kept) last.held.leave()
      else last?.held.release()
    }
    const open = await held.value
    const bytes = chunksOf(open, run.block, run.first, run.count)
    const names = open.pack.directory.chunkNames(run.block, run.first, run.count)
    const keep = () => {
      lent.kept = true
    }
    return { bytes, names, chunks: run.count, keep }
  }

  /** Nobody asks any more, but who did may still look at these. */
  end(): void {
    for (const { held } of this.#pieces.splice(0)) held.leave()
  }
}

const sameBlock = (a: Run, b: Run): boolean => a.origin === b.origin && a.pack === b.pack && a.block === b.block

function weightOf({ path, linkTarget, hardLinkTo, xattrs }: TreeEntry): number {
  const attributes = (xattrs ?? []).reduce((sum, { name, value }) => sum + name.length + value.length, 0)
  return path.length + (linkTarget?.length ?? 0) + (hardLinkTo?.length ?? 0) + attributes
}
