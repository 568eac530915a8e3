import { giveBack } from '../give-back.ts'
import type { BlockCodec } from './codec-threads.ts'
import { type BlockKind, TARGETS } from './format.ts'
import type { Packer } from './packer.ts'
import type { Effort } from './packing.mjs'
import type { Places } from './places.ts'
import { type Sum, sumOf } from './sums.mjs'

/** A block on its way: packed with others in parallel, put into packs in the order of `submit`. */
export interface FilledBlock {
  /** Its number in Places. */
  readonly ref: number
  readonly kind: BlockKind
  /** Of `takeBuffer`, or one of its own; handed over. */
  readonly buffer: Buffer
  readonly length: number
  /** Of the plaintext. */
  readonly sum: Sum
  readonly effort: Effort
  readonly lengths: Uint32Array
  readonly names: Buffer
}

const NO_LENGTHS = new Uint32Array(0)
const NO_NAMES = Buffer.alloc(0)

export class BlockPipeline {
  readonly #codec: BlockCodec
  readonly #packer: Packer
  readonly #places: Places
  /** Blocks that are packed or wait for their place at a time: what bounds the memory. */
  readonly #most: number
  readonly #pool: Buffer[] = []
  #tail: Promise<void> = Promise.resolve()
  #inFlight = 0
  #failure: { error: unknown } | null = null
  #waiting: Array<() => void> = []

  constructor(codec: BlockCodec, packer: Packer, places: Places, most: number) {
    this.#codec = codec
    this.#packer = packer
    this.#places = places
    this.#most = most
  }

  /** A buffer of one block's size for the caller to fill. */
  takeBuffer(): Buffer {
    return this.#pool.pop() ?? Buffer.allocUnsafeSlow(TARGETS.block)
  }

  /** Never waits: callers await `room` between blocks. A failure shows there. */
  submit(block: FilledBlock): void {
    this.#inFlight++
    const packed = this.#codec.pack(block)
    // the pack's turn may come much later: an error must not count as unhandled until then
    packed.catch(() => undefined)
    this.#tail = this.#tail.then(async () => {
      try {
        if (this.#failure) return
        const { ref, kind, length: plainLength, lengths, names } = block
        const done = await packed
        const placed = await this.#packer.append({ kind, packed: done, plainLength, lengths, names })
        this.#places.place(ref, placed.pack, placed.block, lengths.length)
        if (done.buffer.length === TARGETS.block) this.#pool.push(done.buffer)
      } catch (error) {
        this.#failure = { error }
      } finally {
        this.#inFlight--
        for (const wake of this.#waiting.splice(0)) wake()
      }
    })
  }

  /** Submits a page; the number by which its place is found later. `plain` is not kept. */
  submitPage(kind: 'page' | 'index', plain: Buffer): number {
    const ref = this.#places.begin()
    const buffer = this.takeBuffer()
    const length = plain.copy(buffer)
    this.submit({ ref, kind, buffer, length, sum: sumOf(plain), effort: 'fitting', lengths: NO_LENGTHS, names: NO_NAMES })
    return ref
  }

  /** Whether `room` has something to wait for, or to throw: asked after each of many small files, where a promise each would cost more. */
  get isBusy(): boolean {
    return this.#inFlight >= this.#most || this.#failure !== null
  }

  /** Waits until another block may be submitted. */
  async room(): Promise<void> {
    while (this.#inFlight >= this.#most && !this.#failure) await this.#change()
    if (this.#failure) throw this.#failure.error
  }

  /** Waits until every block submitted so far has its place. */
  async placed(): Promise<void> {
    await this.#tail
    if (this.#failure) throw this.#failure.error
  }

  /** After `placed`, when no block follows: gives back the memory that blocks were made in. */
  release(): void {
    for (const buffer of this.#pool.splice(0)) giveBack(buffer)
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }
}
