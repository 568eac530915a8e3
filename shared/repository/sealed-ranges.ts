import { giveBack } from '../give-back.ts'
import type { Directory } from './directory.ts'
import { KIB, MIB } from './format.ts'

/** Fetched at once when several blocks of a pack are wanted: two that did not shrink, more of others. Several are under way at a time. */
const RANGE = 2 * MIB + 256 * KIB
/** Of ranges that are fetched and not used up yet. */
const MOST = 16 * MIB

/** A pack as far as it is needed here. */
interface Fetched {
  readonly key: string
  readonly size: number
  readonly directory: Directory
}

/**
 * Ranges begin and end at multiples of this, or with the pack: where blocks begin and end is where chunks do, and who runs the store sees what is asked
 * for. From exact ends of data of his own he can solve for the source's gear table (lengths.test.ts).
 */
const GRID = 32 * KIB

/** The range that is asked for in place of this one. */
export function onGrid(size: number, from: number, to: number): { offset: number; length: number } {
  const offset = from - (from % GRID)
  return { offset, length: Math.min(size, Math.ceil(to / GRID) * GRID) - offset }
}

interface Range {
  readonly start: number
  readonly length: number
  readonly bytes: Promise<Buffer>
  /** Blocks of it that wait to be taken, by their slot. */
  readonly waiting: Set<string>
  readers: number
  dropped: boolean
}

/** A sealed block, as a view of the range that it came in. */
export interface SealedBlock {
  readonly bytes: Buffer
  /** The view is not looked at any more. */
  done(): void
}

/**
 * Sealed blocks on their way from the store: neighbours come in one range, ahead of the time when they are taken, and the memory of a range is
 * given back by hand when its last block was taken. Bounded, whoever asks for how much.
 */
export class SealedRanges {
  readonly #fetch: (key: string, offset: number, length: number) => Promise<Buffer>
  readonly #slots = new Map<string, Range>()
  readonly #ranges = new Set<Range>()
  #bytes = 0

  /** `fetch` gives bytes that are the caller's own. */
  constructor(fetch: (key: string, offset: number, length: number) => Promise<Buffer>) {
    this.#fetch = fetch
  }

  /** Begins to fetch a block, with its neighbours up to `last`, where there is room for it; it comes all the same when it is taken. */
  want(pack: Fetched, block: number, last: number): void {
    if (!this.#slots.has(slotOf(pack, block)) && this.#bytes < MOST) this.#begin(pack, block, last)
  }

  async take(pack: Fetched, block: number, last: number): Promise<SealedBlock> {
    const { directory } = pack
    const range = this.#slots.get(slotOf(pack, block)) ?? this.#begin(pack, block, last)
    this.#leave(range, slotOf(pack, block))
    range.readers++
    const done = () => {
      range.readers--
      this.#dropUsed(range)
    }
    try {
      const at = directory.offset(block) - range.start
      return { bytes: (await range.bytes).subarray(at, at + directory.end(block) - directory.offset(block)), done }
    } catch (error) {
      done()
      throw error
    }
  }

  #begin(pack: Fetched, block: number, last: number): Range {
    const { key, directory } = pack
    const first = directory.offset(block)
    let end = block
    while (end < last && directory.end(end + 1) - first <= RANGE && !this.#slots.has(slotOf(pack, end + 1))) end++
    const { offset: start, length } = onGrid(pack.size, first, directory.end(end))
    const bytes = this.#fetch(key, start, length)
    const range: Range = { start, length, bytes, waiting: new Set(), readers: 0, dropped: false }
    // whoever waits for it is told; whoever comes later asks the store again
    bytes.catch(() => this.#drop(range))
    for (let n = block; n <= end; n++) {
      range.waiting.add(slotOf(pack, n))
      this.#slots.set(slotOf(pack, n), range)
    }
    this.#ranges.add(range)
    this.#bytes += length
    this.#shrink(range)
    return range
  }

  /** What was fetched ahead for somebody who did not take it gives way, oldest first. */
  #shrink(keep: Range): void {
    for (const range of this.#ranges) {
      if (this.#bytes <= MOST) return
      if (range === keep || range.readers > 0) continue
      this.#drop(range)
    }
  }

  #drop(range: Range): void {
    for (const slot of range.waiting) this.#leave(range, slot)
    this.#dropUsed(range)
  }

  #leave(range: Range, slot: string): void {
    if (range.waiting.delete(slot)) this.#slots.delete(slot)
  }

  #dropUsed(range: Range): void {
    if (range.dropped || range.readers > 0 || range.waiting.size > 0) return
    range.dropped = true
    this.#ranges.delete(range)
    this.#bytes -= range.length
    range.bytes.then(giveBack, () => undefined)
  }
}

const slotOf = ({ key }: Fetched, block: number): string => `${key}/${block}`
