import { giveBack } from '../give-back.ts'
import type { BackupPlaceRef } from '../manifest/layout.ts'
import { KIB, LIMITS } from './format.ts'
import { type AttemptKeys, type FinishedPack, PACK_TRAILER, type PackBlock, PackBuilder, PackOpener } from './pack.ts'
import type { Draw, ObjectSink, StoredPack } from './repository.ts'
import { hashPack, provePack } from './whole-pack.ts'

/** A pack that this backup may use: of this attempt or of an earlier one. */
export interface UsablePack {
  readonly attempt: number
  /** Set once it was confirmed. Without its chunks: a terabyte's would not fit into memory. */
  stored: Omit<StoredPack, 'chunks'> | null
}

export interface PackerOptions {
  readonly backup: BackupPlaceRef
  readonly attempt: number
  readonly keys: Required<AttemptKeys>
  readonly objects: ObjectSink
  readonly signal: AbortSignal
  /** Awaited before the first pack is sent. */
  readonly beforeFirst: () => Promise<void>
  readonly onStored: (pack: StoredPack) => Promise<void>
  readonly draw: Draw
}

interface OpenPack {
  readonly builder: PackBuilder
  /** Its number. */
  readonly pack: number
}

/** Packs that are being checked or sent beside the open one. */
const IN_FLIGHT = 2
const FIRST_BUFFER = 256 * KIB
/** Buffers of a whole pack, whoever has them: what bounds the memory. One is filled while the other is sent. */
const WHOLE_BUFFERS = 2
/** So many packs more than others had to wait for one: the store is not slow for a moment but by its kind, and two are to be on their way while the next is filled. */
const WAITED_OFTEN = 50
/** Of those others each counts for so many: where every second pack waits, a long backup would come to any number by chance. */
const NOT_WAITED = 3

/**
 * Fills packs with blocks, opens each finished one again with the reader's code, and sends it. `append` returns when the block
 * has its place; it waits while too many packs are under way: the next one has no more than a small buffer until the memory of one that was sent is free. A third
 * one that is made in a moment in which the store is slow would be the most that a long backup ever holds; there is one where packs wait again and again. Not to be called in parallel with itself.
 */
export class Packer {
  readonly packs: UsablePack[] = []
  readonly #options: PackerOptions
  /** Of a whole pack. */
  readonly #free: Buffer[] = []
  /** All that there are, in use or free. */
  readonly #whole = new Set<Buffer>()
  /** How many packs had to wait for one, less three for each that had not; not below none. */
  #waited = 0
  #open: OpenPack | null = null
  #sending = new Set<Promise<void>>()
  #failure: { error: unknown } | null = null
  /** Packs are opened again one after the other, and sent in their order: after one that does not open, none. */
  #proofs: Promise<unknown> = Promise.resolve()
  /** Reports of confirmed packs, one at a time. */
  #reports: Promise<void> = Promise.resolve()

  constructor(options: PackerOptions) {
    this.#options = options
  }

  async append(block: PackBlock): Promise<{ pack: number; block: number }> {
    if (this.#open && !this.#open.builder.hasRoomFor(block)) await this.#close(this.#open)
    const open = this.#open ?? this.#begin()
    if (!open.builder.holds(block)) open.builder.moveTo(await this.#wholeBuffer())
    return { pack: open.pack, block: open.builder.append(block) }
  }

  /** Closes the open pack and waits until every pack is confirmed. */
  async finish(): Promise<void> {
    if (this.#open) await this.#close(this.#open, this.#options.draw)
    while (this.#sending.size > 0) await Promise.race(this.#sending)
    this.#check()
  }

  /** After `finish`: gives back the memory that the last packs were made in. */
  release(): void {
    for (const buffer of this.#free.splice(0)) {
      this.#whole.delete(buffer)
      giveBack(buffer)
    }
  }

  /** Waits for what is under way, without its result. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#sending)
  }

  #begin(): OpenPack {
    this.#check()
    const { backup, attempt, keys } = this.#options
    const free = this.#free.pop()
    if (free) this.#waited = Math.max(0, this.#waited - NOT_WAITED)
    const buffer = free ?? Buffer.allocUnsafeSlow(FIRST_BUFFER)
    const pack = this.packs.push({ attempt, stored: null }) - 1
    this.#open = { builder: new PackBuilder(backup, attempt, keys, buffer), pack }
    return this.#open
  }

  /** Waits for one that is on its way where there are as many as there may be: those who have them are then all being sent. */
  async #wholeBuffer(): Promise<Buffer> {
    if (this.#free.length === 0 && this.#whole.size === WHOLE_BUFFERS) this.#waited++
    const most = this.#waited > WAITED_OFTEN ? WHOLE_BUFFERS + 1 : WHOLE_BUFFERS
    while (this.#free.length === 0 && this.#whole.size >= most) {
      // after a failure or an abort no memory comes free, and nothing may be under way any more
      this.#check()
      await Promise.race(this.#sending)
    }
    this.#check()
    const free = this.#free.pop()
    if (free) return free
    const made = Buffer.allocUnsafeSlow(LIMITS.pack)
    this.#whole.add(made)
    return made
  }

  /**
   * The length of a backup's last pack is what changed: rounded up or down by chance, since who has data of his own in the source could else move it
   * over the next step, byte by byte, and so learn it exactly. The other packs are about full, whatever is in them.
   */
  async #close(open: OpenPack, draw: Draw | null = null): Promise<void> {
    this.#open = null
    while (this.#sending.size >= IN_FLIGHT) await Promise.race(this.#sending)
    this.#check()
    const task: Promise<void> = this.#send(open.builder.finish(draw), open.pack)
      .then(() => {
        const { buffer } = open.builder
        if (this.#whole.has(buffer)) this.#free.push(buffer)
        else giveBack(buffer)
      })
      .catch((error: unknown) => {
        this.#failure ??= { error }
      })
      .finally(() => this.#sending.delete(task))
    this.#sending.add(task)
  }

  async #send(pack: FinishedPack, number: number): Promise<void> {
    const { objects, signal, beforeFirst, onStored } = this.#options
    const proof = this.#proofs.then(() => this.#prove(pack))
    this.#proofs = proof
    const hash = await proof
    await beforeFirst()
    signal.throwIfAborted()
    await objects.put(pack.name, pack.bytes, hash, signal)
    const stored = { name: pack.name, size: pack.bytes.length, sha256: hash }
    this.#reports = this.#reports.then(() => onStored({ ...stored, chunks: packRecord(pack) }))
    await this.#reports
    ;(this.packs[number] as UsablePack).stored = stored
  }

  /** Its hash, for the store: what changes after it was taken, while it is opened or later, does not fit it. */
  async #prove(pack: FinishedPack): Promise<Buffer> {
    const { backup, attempt, keys } = this.#options
    const hash = await hashPack(pack.bytes)
    await provePack(new PackOpener({ backup, attempt, object: pack.name }, keys, pack.bytes.subarray(-PACK_TRAILER)), pack)
    return hash
  }

  #check(): void {
    this.#options.signal.throwIfAborted()
    if (this.#failure) throw this.#failure.error
  }
}

/** What a resumed attempt needs to use the pack again: number of blocks, then the directory. */
function packRecord(pack: FinishedPack): Buffer {
  const record = Buffer.alloc(4 + pack.directory.length)
  record.writeUInt32LE(pack.blocks, 0)
  pack.directory.copy(record, 4)
  return record
}
