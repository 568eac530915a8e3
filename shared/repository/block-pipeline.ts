import { compress } from './compressor.ts'
import { type BlockKind, sha256, TARGETS } from './format.ts'
import type { Packer } from './packer.ts'
import type { Places } from './places.ts'

/** A block on its way: compressed with others in parallel, put into packs in order. */
export interface FilledBlock {
  /** Its number in Places. */
  readonly ref: number
  readonly kind: BlockKind
  readonly plain: Buffer
  readonly compressible: boolean
  readonly lengths: Uint32Array
  readonly names: Buffer
  /** Given back to the pool afterwards. */
  readonly buffer?: Buffer
}

/** Blocks that are compressed or waiting for their pack at a time: what bounds the memory. */
const IN_FLIGHT = 4

const NO_LENGTHS = new Uint32Array(0)
const NO_NAMES = Buffer.alloc(0)

export class BlockPipeline {
  readonly #packer: Packer
  readonly #places: Places
  readonly #pool: Buffer[] = []
  #tail: Promise<void> = Promise.resolve()
  #inFlight = 0
  #failure: { error: unknown } | null = null
  #waiting: Array<() => void> = []

  constructor(packer: Packer, places: Places) {
    this.#packer = packer
    this.#places = places
  }

  /** A buffer of one block's size for the caller to fill. */
  takeBuffer(): Buffer {
    return this.#pool.pop() ?? Buffer.allocUnsafeSlow(TARGETS.block)
  }

  giveBack(buffer: Buffer): void {
    if (this.#pool.length < IN_FLIGHT * 2) this.#pool.push(buffer)
  }

  /** Never waits: callers await `room` between blocks. A failure shows there. */
  submit(block: FilledBlock): void {
    this.#inFlight++
    const packed = compress(block.plain, block.compressible)
    // the pack's turn may come much later: an error must not count as unhandled until then
    packed.catch(() => undefined)
    this.#tail = this.#tail.then(async () => {
      try {
        if (this.#failure) return
        const { ref, kind, plain, lengths, names } = block
        const pageSha256 = kind === 'data' ? undefined : sha256(plain)
        const placed = await this.#packer.append({
          kind,
          packed: await packed,
          plainLength: plain.length,
          lengths,
          names,
          pageSha256,
        })
        this.#places.place(ref, placed.pack, placed.block, lengths.length)
      } catch (error) {
        this.#failure = { error }
      } finally {
        if (block.buffer) this.giveBack(block.buffer)
        this.#inFlight--
        for (const wake of this.#waiting.splice(0)) wake()
      }
    })
  }

  /** Submits a page; the number by which its place is found later. */
  submitPage(kind: 'page' | 'index', plain: Buffer): number {
    const ref = this.#places.begin()
    this.submit({ ref, kind, plain, compressible: true, lengths: NO_LENGTHS, names: NO_NAMES })
    return ref
  }

  /** Waits until another block may be submitted. */
  async room(): Promise<void> {
    while (this.#inFlight >= IN_FLIGHT && !this.#failure) await this.#change()
    if (this.#failure) throw this.#failure.error
  }

  /** Waits until every block submitted so far has its place. */
  async placed(): Promise<void> {
    await this.#tail
    if (this.#failure) throw this.#failure.error
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }
}
