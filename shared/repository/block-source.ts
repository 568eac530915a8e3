import { HoldfastError, isHoldfastError } from '../errors.ts'
import { type BackupPlaceRef, objectKey } from '../manifest/layout.ts'
import type { Facts } from '../manifest/manifest.ts'
import { ByteCache } from './byte-cache.ts'
import type { Directory } from './directory.ts'
import { attemptOfPack, checkValue, damaged, indexKeyOf, KIB, LIMITS, MIB, PACK_NAME, sha256 } from './format.ts'
import { type AttemptKeys, PACK_TRAILER, PackOpener } from './pack.ts'
import type { ObjectSource } from './repository.ts'

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
  /** Where each chunk begins, and the end. */
  readonly offsets: Uint32Array
}

/** Fetched at once when several blocks of a pack are wanted. */
const RANGE = 4 * MIB
const TAIL = 256 * KIB

/** Reads blocks out of packs: by ranges, several neighbours at once, with bounded caches. May be called in parallel. */
export class BlockSource {
  readonly #objects: ObjectSource
  readonly #origins: readonly Origin[]
  readonly #signal: AbortSignal
  readonly #onRead: (bytes: number) => void
  readonly #packs = new ByteCache<OpenPack>(48 * MIB)
  readonly #blocks = new ByteCache<OpenBlock>(24 * MIB)
  readonly #sealed = new ByteCache<Buffer>(24 * MIB)

  constructor(objects: ObjectSource, origins: readonly Origin[], signal: AbortSignal, onRead: (bytes: number) => void) {
    this.#objects = objects
    this.#origins = origins
    this.#signal = signal
    this.#onRead = onRead
  }

  /** `last`: blocks up to this one will be wanted soon. */
  block(origin: number, pack: number, block: number, last = block): Promise<OpenBlock> {
    return this.#blocks.get(`${origin}/${pack}/${block}`, async () => {
      const open = await this.pack(origin, pack)
      if (block >= open.directory.blocks) throw open.opener.fail(`block ${block} is wanted of it, which it does not have`)
      const sealed = await this.#sealedBlock(open, block, Math.min(last, open.directory.blocks - 1))
      const plain = await open.opener.block(open.directory, block, sealed)
      return { value: { pack: open, plain, offsets: offsetsOf(open.directory, block) }, bytes: plain.length }
    })
  }

  /** The pack with its directory. */
  pack(origin: number, pack: number): Promise<OpenPack> {
    return this.#packs.get(`${origin}/${pack}`, async () => {
      const from = this.#origins[origin]
      const object = from?.packs[pack]
      if (!from || !object) throw damaged(`pack ${pack} of origin ${origin}`, 'the contents name it, the manifest does not')
      const open = await this.#openPack(from, object.name, object.size)
      return { value: open, bytes: open.directory.bytes.length + 1024 }
    })
  }

  /** One object or a part of it, of exactly this length. */
  async fetch(key: string, offset: number, length: number): Promise<Buffer> {
    this.#signal.throwIfAborted()
    const bytes = await fetchObject(this.#objects, key, { offset, length }, this.#signal)
    this.#onRead(bytes.length)
    return bytes
  }

  async #openPack(from: Origin, name: string, size: number): Promise<OpenPack> {
    const key = objectKey(from.ref, name)
    if (size > LIMITS.pack || size < PACK_TRAILER) throw damaged(key, 'it has a bad size')
    const attempt = attemptOfPack(name)
    const tailLength = Math.min(size, TAIL)
    const tail = await this.fetch(key, size - tailLength, tailLength)
    const opener = new PackOpener({ backup: from.ref, attempt, object: name }, from.keys(attempt), tail)
    const { directoryLength, blocks } = opener.footer(tail)
    const from0 = size - PACK_TRAILER - directoryLength
    if (from0 < 0) throw opener.fail('its directory does not fit')
    const inTail = directoryLength + PACK_TRAILER <= tailLength
    const sealed = inTail
      ? tail.subarray(-PACK_TRAILER - directoryLength, -PACK_TRAILER)
      : await this.fetch(key, from0, directoryLength)
    return { key, size, opener, directory: opener.directory(sealed, blocks, size) }
  }

  async #sealedBlock(open: OpenPack, block: number, last: number): Promise<Buffer> {
    const { directory, key } = open
    const start = directory.offset(block)
    let end = block
    while (end < last && directory.end(end + 1) - start <= RANGE) end++
    // neighbours that are fetched with it are entered before the first wait, so that none is fetched twice
    const range = this.#sealed.has(`${key}/${block}`) ? null : this.fetch(key, start, directory.end(end) - start)
    range?.catch(() => undefined)
    const slices: Array<Promise<Buffer>> = []
    for (let n = block; n <= end; n++) {
      const length = directory.end(n) - directory.offset(n)
      const make = async () => {
        if (!range) return { value: await this.fetch(key, directory.offset(n), length), bytes: length }
        const at = directory.offset(n) - start
        return { value: (await range).subarray(at, at + length), bytes: length }
      }
      if (range || n === block) slices.push(this.#sealed.get(`${key}/${n}`, make))
    }
    for (const slice of slices) slice.catch(() => undefined)
    return await (slices[0] as Promise<Buffer>)
  }
}

function offsetsOf(directory: Directory, block: number): Uint32Array {
  const chunks = directory.chunksOf(block)
  const offsets = new Uint32Array(chunks + 1)
  for (let n = 0; n < chunks; n++) offsets[n + 1] = (offsets[n] as number) + directory.chunkLength(block, n)
  return offsets
}

/** A chunk of a block, its name compared with its content. */
export function chunkOf(open: OpenBlock, block: number, index: number): Buffer {
  if (index >= open.offsets.length - 1)
    throw open.pack.opener.fail(`chunk ${index} of block ${block} is wanted, which it does not have`)
  const chunk = open.plain.subarray(open.offsets[index], open.offsets[index + 1])
  if (!sha256(chunk).equals(open.pack.directory.chunkName(block, index))) {
    throw open.pack.opener.fail(`chunk ${index} of block ${block} is not what its name says`)
  }
  return chunk
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
