import { HoldfastError, isHoldfastError } from '../errors.ts'
import { type BackupPlaceRef, objectKey } from '../manifest/layout.ts'
import type { Facts } from '../manifest/manifest.ts'
import { ByteCache, type Held } from './byte-cache.ts'
import type { BlockDecoder } from './codec-threads.ts'
import { decompress } from './compressor.ts'
import type { Directory } from './directory.ts'
import { attemptOfPack, checkValue, damaged, indexKeyOf, KIB, LIMITS, MIB, NAME_BYTES, PACK_NAME } from './format.ts'
import { type AttemptKeys, PACK_TRAILER, PackOpener } from './pack.ts'
import { free, type OpenedContent, type SealedContent } from './packing.mjs'
import type { ObjectSource } from './repository.ts'
import type { Run } from './runs.ts'
import { onGrid, SealedRanges } from './sealed-ranges.ts'
import type { Spill } from './spill.ts'

/** A backup of which blocks are read: this one, or one it leans on. */
export interface Origin {
  readonly ref: BackupPlaceRef
  /** By number. */
  readonly packs: ReadonlyArray<{ readonly name: string; readonly size: number }>
  /** Throws `key_missing`. */
  keys(attempt: number): AttemptKeys
}

/** The origin that a backup's facts describe. `dataKey` gives the key of an attempt; it is checked against the facts. */
export function originOf(facts: Facts, dataKey: (attempt: number) => Buffer | undefined): Origin {
  const ref = { host: facts.host, source: facts.source, id: facts.id }
  const checked = new Map<number, AttemptKeys>()
  return {
    ref,
    packs: packsOf(facts),
    keys(attempt) {
      const before = checked.get(attempt)
      if (before) return before
      const row = facts.keys.find((key) => key.attempt === attempt)
      const key = dataKey(attempt)
      const name = objectKey(ref, row?.name ?? `keys/${attempt}`)
      if (!row || !key) throw keyMissing(name, `the data key of attempt ${attempt} is not at hand`)
      if (!checkValue(key, ref, attempt).equals(Buffer.from(row.check, 'hex'))) {
        throw keyMissing(name, `what is at hand is not the data key of attempt ${attempt}`)
      }
      const keys = { dataKey: key, indexKey: indexKeyOf(key, ref, attempt) }
      checked.set(attempt, keys)
      return keys
    },
  }
}

export const packsOf = (facts: Facts) => facts.objects.filter((object) => PACK_NAME.test(object.name))

const keyMissing = (key: string, what: string) =>
  new HoldfastError('key_missing', `${key}: ${what}`, {
    hint: 'Give an identity of a recipient of this backup.',
    context: { key },
  })

/** One pack as far as it is open. */
export interface OpenPack {
  readonly key: string
  readonly size: number
  readonly opener: PackOpener
  readonly directory: Directory
}

export interface OpenBlock {
  readonly pack: OpenPack
  readonly plain: Buffer
  /** Where each chunk ends. */
  readonly ends: Uint32Array
  /** SHA-256 of each chunk as it was decoded, to be compared with its name by whoever gives it out. */
  readonly hashes: Buffer
}

/**
 * What is read of a pack's end at first. The directory of a pack that was cut at 64 KiB is half of it; one of small chunks is asked for once more. A restore of a
 * little reads the ends of many packs for it, one at least of each backup that is leaned on.
 */
const tailOf = (size: number) => Math.min(size, Math.max(16 * KIB, Math.ceil(size / 256)))

/** Of open blocks. What a backup has stored itself is wanted in the order of its packs, once. */
const ONCE = 8 * MIB
/** Of what it leans on, a little of one block is wanted, then of another, then of the first again. */
const AGAIN = 24 * MIB

export interface BlockSourceOptions {
  readonly objects: ObjectSource
  readonly origins: readonly Origin[]
  readonly decoder: BlockDecoder
  readonly signal: AbortSignal
  /** For blocks that are wanted again and again; without it they are fetched again. */
  readonly spill?: Spill
  onRead(bytes: number): void
}

/** Reads blocks out of packs: by ranges, several neighbours at once, with bounded caches. May be called in parallel. */
export class BlockSource {
  readonly #options: BlockSourceOptions
  readonly #packs = new ByteCache<OpenPack>(48 * MIB)
  readonly #blocks: ByteCache<OpenBlock>
  readonly #sealed = new SealedRanges((key, offset, length) => this.fetch(key, offset, length))

  constructor(options: BlockSourceOptions) {
    this.#options = options
    this.#blocks = new ByteCache(options.origins.length > 1 ? AGAIN : ONCE, ({ plain }) => free(plain))
  }

  block(origin: number, pack: number, block: number): Promise<OpenBlock> {
    return this.#blocks.get(`${origin}/${pack}/${block}`, () => this.#open(origin, pack, block, block))
  }

  /** The same, its memory given back once nobody holds it. `last`: blocks up to this one will be wanted soon. */
  hold(origin: number, pack: number, block: number, last: number): Held<OpenBlock> {
    return this.#blocks.hold(`${origin}/${pack}/${block}`, () => this.#open(origin, pack, block, last))
  }

  /** Begins to fetch a block that will be held, and gives its sealed length: 0 where it is open already. */
  async prepare(origin: number, pack: number, block: number, last: number): Promise<number> {
    const name = `${origin}/${pack}/${block}`
    if (this.#blocks.has(name) || this.#options.spill?.has(name)) return 0
    const open = await this.#packWith(origin, pack, block)
    this.#sealed.want(open, block, Math.min(last, open.directory.blocks - 1))
    return open.directory.end(block) - open.directory.offset(block)
  }

  /** SHA-256 of each chunk of bytes that came from elsewhere. They are taken over, and given back with it. */
  hashed(bytes: Buffer, ends: Uint32Array): Promise<OpenedContent> {
    return this.#options.decoder.open({ packed: bytes, codec: 'stored', ends })
  }

  /** The pack with its directory. */
  pack(origin: number, pack: number): Promise<OpenPack> {
    return this.#packs.get(`${origin}/${pack}`, async () => {
      const from = this.#options.origins[origin]
      const object = from?.packs[pack]
      if (!from || !object) throw damaged(`pack ${pack} of origin ${origin}`, 'the contents name it, the manifest does not')
      const open = await this.#openPack(from, object.name, object.size)
      return { value: open, bytes: open.directory.bytes.length + 1024 }
    })
  }

  /** One object or a part of it, of exactly this length. */
  async fetch(key: string, offset: number, length: number): Promise<Buffer> {
    const { objects, signal, onRead } = this.#options
    signal.throwIfAborted()
    const bytes = await fetchObject(objects, key, { offset, length }, signal)
    onRead(bytes.length)
    return bytes
  }

  async #openPack(from: Origin, name: string, size: number): Promise<OpenPack> {
    const key = objectKey(from.ref, name)
    if (size > LIMITS.pack || size < PACK_TRAILER) throw damaged(key, 'it has a bad size')
    const attempt = attemptOfPack(name)
    const tailLength = tailOf(size)
    const tail = await this.fetch(key, size - tailLength, tailLength)
    const opener = new PackOpener({ backup: from.ref, attempt, object: name }, from.keys(attempt), tail)
    const { directoryLength, blocks } = opener.footer(tail)
    const from0 = size - PACK_TRAILER - directoryLength
    if (from0 < 0) throw opener.fail('its directory does not fit')
    const inTail = directoryLength + PACK_TRAILER <= tailLength
    const sealed = inTail
      ? tail.subarray(-PACK_TRAILER - directoryLength, -PACK_TRAILER)
      : await this.#fetchPart(key, size, from0, directoryLength)
    return { key, size, opener, directory: opener.directory(sealed, blocks, size) }
  }

  /** Its exact length would say how many chunks there are. */
  async #fetchPart(key: string, size: number, from: number, length: number): Promise<Buffer> {
    const { offset, length: more } = onGrid(size, from, from + length)
    const bytes = await this.fetch(key, offset, more)
    return bytes.subarray(from - offset, from - offset + length)
  }

  async #packWith(origin: number, pack: number, block: number): Promise<OpenPack> {
    const open = await this.pack(origin, pack)
    if (block >= open.directory.blocks) throw open.opener.fail(`block ${block} is wanted of it, which it does not have`)
    return open
  }

  async #open(origin: number, pack: number, block: number, last: number): Promise<{ value: OpenBlock; bytes: number }> {
    const open = await this.#packWith(origin, pack, block)
    const { directory, opener } = open
    const name = `${origin}/${pack}/${block}`
    const packed = this.#spilled(open, block, name) ?? (await this.#fetched(open, block, { name, last }))
    if (directory.kind(block) !== 'data') {
      const plain = await decompress(packed, directory.plainLength(block), opener.fail)
      return { value: { pack: open, plain, ends: NO_ENDS, hashes: NO_HASHES }, bytes: plain.length }
    }
    const ends = endsOf(directory, { block, first: 0, count: directory.chunksOf(block) })
    const { plain, names } = await this.#decoded(open, { packed: packed.bytes, codec: packed.codec, ends })
    return { value: { pack: open, plain, ends, hashes: names }, bytes: plain.length }
  }

  async #fetched(open: OpenPack, block: number, { name, last }: { name: string; last: number }): Promise<Packed> {
    const { directory, opener } = open
    const sealed = await this.#sealed.take(open, block, Math.min(last, directory.blocks - 1))
    try {
      const packed = opener.packed(directory, block, sealed.bytes)
      this.#options.spill?.note(name, sealed.bytes)
      return packed
    } finally {
      sealed.done()
    }
  }

  #spilled({ opener, directory }: OpenPack, block: number, name: string): Packed | null {
    const sealed = this.#options.spill?.take(name)
    if (!sealed) return null
    try {
      return opener.packed(directory, block, sealed)
    } catch (error) {
      // a scratch disk that gives back something else says nothing about the store
      if (!isHoldfastError(error)) throw error
      this.#options.spill?.forget(name)
      return null
    }
  }

  async #decoded({ opener }: OpenPack, content: SealedContent): Promise<OpenedContent> {
    try {
      return await this.#options.decoder.open(content)
    } catch (cause) {
      // a thread that has died says nothing about the store
      if (isHoldfastError(cause)) throw cause
      throw opener.fail('a block does not decode', cause)
    }
  }
}

type Packed = ReturnType<PackOpener['packed']>

const NO_ENDS = new Uint32Array(0)
const NO_HASHES = Buffer.alloc(0)

/** Where each of neighbouring chunks ends, counted from the beginning of the first. */
export function endsOf(directory: Directory, { block, first, count }: Pick<Run, 'block' | 'first' | 'count'>): Uint32Array {
  const ends = new Uint32Array(count)
  let at = 0
  for (let n = 0; n < count; n++) {
    at += directory.chunkLength(block, first + n)
    ends[n] = at
  }
  return ends
}

/** Neighbouring chunks of a block in one piece, each compared with its name. */
export function chunksOf(open: OpenBlock, block: number, first: number, count: number): Buffer {
  const { pack, plain, ends, hashes } = open
  const end = first + count
  if (end > ends.length) throw pack.opener.fail(`chunk ${end - 1} of block ${block} is wanted, which it does not have`)
  for (let n = first; n < end; n++) {
    if (hashes.compare(pack.directory.chunkName(block, n), 0, NAME_BYTES, n * NAME_BYTES, (n + 1) * NAME_BYTES) !== 0)
      throw pack.opener.fail(`chunk ${n} of block ${block} is not what its name says`)
  }
  return plain.subarray(first === 0 ? 0 : ends[first - 1], ends[end - 1])
}

/** Names the object in every error, and compares the length. */
export async function fetchObject(
  objects: ObjectSource,
  key: string,
  range: { offset: number; length: number },
  signal: AbortSignal,
): Promise<Buffer> {
  if (range.length === 0) throw damaged(key, 'it is empty')
  let bytes: Buffer
  try {
    bytes = await objects.get(key, range, signal)
  } catch (cause) {
    if (!isHoldfastError(cause, 'object_missing') && !isHoldfastError(cause, 'object_damaged')) throw cause
    throw new HoldfastError(cause.code, cause.message.includes(key) ? cause.message : `${key}: ${cause.message}`, {
      hint: cause.hint,
      context: { ...cause.context, key },
      cause,
    })
  }
  if (bytes.length !== range.length) throw damaged(key, `it gave ${bytes.length} bytes where ${range.length} were asked for`)
  return bytes
}
