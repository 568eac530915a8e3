import type { TreeEntry } from '../artifacts.ts'
import type { BlockSource, OpenBlock } from './block-source.ts'
import type { BodyRecord } from './body-reader.ts'
import type { Held } from './byte-cache.ts'
import { codecThreads } from './codec-threads.ts'
import { MIB } from './format.ts'
import type { Found, InPlace } from './in-place.ts'
import { Lent, type LentPiece } from './lent.ts'
import type { Run } from './runs.ts'

export type Piece = { readonly hole: number } | LentPiece

/** Records that are looked at ahead, so that neighbouring blocks are fetched at once: those of a few hundred small files. */
const RECORDS = 1024
/** Bytes of entries among them; hostile attributes are large. */
const ENTRIES = 2 * MIB
/** Sealed bytes that are fetched ahead of what is used: several ranges under way, whatever the distance to the store. */
const SEALED = 8 * MIB
/** Bytes that were read where they are restored, and are compared or wait for their turn. */
const IN_PLACE = 8 * MIB
/** Blocks of which that is known before one is fetched: most of what fits into a range. */
const NEIGHBOURS = 8
/** Runs of other packs that may lie between neighbours. After incrementals a block is wanted in parts, with what has changed since between them. */
const BETWEEN = 16
/** Blocks that are open or being opened: every thread has one to do, and two are at hand. */
const OPEN = codecThreads() + 2

type Entry = BodyRecord & { readonly kind: 'entry' }

interface Item {
  readonly record: BodyRecord
  /** Whose content it is; null in a body without entries. */
  readonly entry: TreeEntry | null
  /** Counts the blocks of the content, one up wherever a run is of another block than the one before. */
  readonly ordinal: number
  readonly weight: number
  /** What lies in place and may be its bytes, so many. */
  look: Promise<Found | null> | null
  looked: number
  prepared: boolean
  sealed: number
  found: Found | null
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
  readonly #inPlace: InPlace | null
  /** The first `#opened` of it are open, the first `#prepared` are on their way; of the first `#looked` it is known what may lie in place. */
  readonly #queue: Item[] = []
  #looked = 0
  #prepared = 0
  #opened = 0
  #sealed = 0
  #inPlaceBytes = 0
  /** Ordinal of the block that was asked for last. */
  #asked = -1
  #weight = 0
  #ordinal = 0
  #run: Run | null = null
  #entry: TreeEntry | null = null
  #eager = false
  #ended = false
  #closed = false
  #failure: { readonly error: unknown } | null = null
  /** The entry whose content is next. */
  #current: TreeEntry | null = null
  readonly #lent = new Lent()
  readonly #waiting: Array<() => void> = []
  readonly #looking: Promise<void>

  constructor(blocks: BlockSource, records: AsyncIterable<BodyRecord>, inPlace: InPlace | null = null) {
    this.#blocks = blocks
    this.#records = records[Symbol.asyncIterator]()
    this.#inPlace = inPlace
    void this.#work()
    this.#looking = inPlace ? this.#look(inPlace) : Promise.resolve()
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
      else if (item.record.kind === 'run' && item.found) yield this.#lent.ofFound(item.record.run, item.found)
      else if (item.record.kind === 'run' && item.held) yield await this.#lent.ofBlock(item.record.run, item.held)
    }
  }

  /** Resolves when nothing is read in place any more. */
  async close(): Promise<void> {
    this.#closed = true
    for (const { held } of this.#queue.splice(0)) held?.release()
    this.#lent.end()
    this.#changed()
    await this.#looking
    this.#inPlace?.close()
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
    this.#inPlaceBytes -= item.looked
    if (this.#looked > 0) this.#looked--
    if (item.prepared) this.#prepared--
    if (this.#opened > 0) this.#opened--
    this.#changed()
  }

  /** Never throws: what fails is told in its turn. */
  async #work(): Promise<void> {
    while (!this.#closed) {
      if (!this.#ended && this.#queue.length < RECORDS && this.#weight < ENTRIES) await this.#pull()
      else if (this.#eager && this.#mayPrepare && this.#sealed < SEALED) await this.#prepare()
      else if (this.#ended && this.#prepared === this.#queue.length) return
      else await this.#change()
    }
  }

  /** Where something may lie in place, not before it is known of the neighbours: else each block would be fetched by itself. */
  get #mayPrepare(): boolean {
    const [next, last] = [this.#queue[this.#prepared], this.#queue[this.#lookedEnd - 1]]
    if (!next || !last || this.#prepared >= this.#lookedEnd) return false
    if (this.#lookedEnd === this.#queue.length || this.#inPlaceBytes >= IN_PLACE) return true
    return last.ordinal - next.ordinal >= NEIGHBOURS
  }

  get #lookedEnd(): number {
    return this.#inPlace ? this.#looked : this.#queue.length
  }

  /** By itself, so that a disk and a line are waited for at one time. Never throws: what fails is told in its turn. */
  async #look(inPlace: InPlace): Promise<void> {
    while (!this.#closed) {
      const item = this.#queue[this.#looked]
      if (!item && this.#ended) return
      if (item && this.#eager && this.#inPlaceBytes < IN_PLACE) await this.#lookAt(inPlace, item)
      else await this.#change()
    }
  }

  async #lookAt(inPlace: InPlace, item: Item): Promise<void> {
    try {
      const look = item.entry && item.record.kind !== 'entry' ? await inPlace.look(item.entry, item.record) : null
      // it may have been left out meanwhile
      if (this.#queue[this.#looked] !== item) return
      item.look = look?.found ?? null
      item.looked = look?.length ?? 0
    } catch (error) {
      item.failure = { error }
      if (this.#queue[this.#looked] !== item) return
    }
    this.#inPlaceBytes += item.looked
    this.#looked++
    this.#changed()
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
    if (record.kind === 'entry') this.#entry = record.entry
    if (record.kind === 'run') {
      if (!this.#run || !sameBlock(this.#run, record.run)) this.#ordinal++
      this.#run = record.run
    }
    const weight = record.kind === 'entry' ? weightOf(record.entry) : 0
    this.#weight += weight
    const [entry, ordinal] = [this.#entry, this.#ordinal]
    const untouched = { look: null, looked: 0, prepared: false, sealed: 0, found: null, failure: null, held: null }
    this.#queue.push({ record, entry, ordinal, weight, ...untouched })
  }

  async #prepare(): Promise<void> {
    const at = this.#prepared
    const item = this.#queue[at] as Item
    if (item.record.kind === 'run' && !item.failure) {
      try {
        item.found = await item.look
        if (!item.found) item.sealed = await this.#ask(item, item.record.run, at)
      } catch (error) {
        item.failure = { error }
      }
    }
    // it may have been left out meanwhile
    if (this.#queue[this.#prepared] !== item) return
    item.prepared = true
    this.#prepared++
    if (!item.found) {
      this.#inPlaceBytes -= item.looked
      item.looked = 0
    }
    this.#sealed += item.sealed
    this.#open()
    this.#changed()
  }

  async #ask(item: Item, run: Run, at: number): Promise<number> {
    // the same block again takes no more room
    const before = at > 0 && this.#asked === item.ordinal
    this.#asked = item.ordinal
    return before ? 0 : this.#blocks.prepare(run.origin, run.pack, run.block, await this.#lastNeighbour(run, at))
  }

  /** The last block that the following runs want of the same pack without leaving one out. */
  async #lastNeighbour(run: Run, at: number): Promise<number> {
    let last = run.block
    let others = 0
    // of a copy: the queue moves on while it is waited for what was found
    for (const { record, look } of this.#queue.slice(at + 1, this.#lookedEnd)) {
      if (record.kind !== 'run') continue
      const { origin, pack, block } = record.run
      if (origin !== run.origin || pack !== run.pack) {
        if (++others > BETWEEN) break
      } else if (block < last || block > last + 1) break
      else if (!look || !(await look)) last = block
    }
    return last
  }

  #open(): void {
    const end = (this.#queue[0]?.ordinal ?? 0) + OPEN
    for (; this.#opened < this.#prepared; this.#opened++) {
      const item = this.#queue[this.#opened] as Item
      if (item.ordinal >= end) return
      if (item.record.kind !== 'run' || item.found || item.failure) continue
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

const sameBlock = (a: Run, b: Run): boolean => a.origin === b.origin && a.pack === b.pack && a.block === b.block

function weightOf({ path, linkTarget, hardLinkTo, xattrs }: TreeEntry): number {
  const attributes = (xattrs ?? []).reduce((sum, { name, value }) => sum + name.length + value.length, 0)
  return path.length + (linkTarget?.length ?? 0) + (hardLinkTo?.length ?? 0) + attributes
}
