import { randomBytes } from 'node:crypto'
import { randomBase32 } from '../ids.ts'
import type { BackupPlaceRef } from '../manifest/layout.ts'
import { ByteReader } from './bytes.ts'
import { decompress, type Packed } from './compressor.ts'
import { Directory, type DirectoryRow, directoryBytes, writeDirectory } from './directory.ts'
import {
  type BlockKind,
  damaged,
  LIMITS,
  NUMBER,
  PACK_MAGIC,
  packDataKey,
  packIndexKey,
  padme,
  placeOf,
  SALT_BYTES,
  sha256,
  TAG_BYTES,
  TARGETS,
} from './format.ts'
import { type SealPlace, seal, unseal } from './sealer.ts'

/** Packs (FORMAT.md section 5): building one in memory, and opening one. */

const HEADER = PACK_MAGIC.length
const FOOTER_BYTES = 16 + TAG_BYTES
/** Salt and footer: what is needed to find the directory. */
export const PACK_TRAILER = SALT_BYTES + FOOTER_BYTES

export interface AttemptKeys {
  /** Absent for an agent that holds only the index key. */
  readonly dataKey?: Buffer
  readonly indexKey: Buffer
}

export interface PackBlock {
  readonly kind: BlockKind
  readonly packed: Packed
  readonly plainLength: number
  readonly lengths: Uint32Array
  readonly names: Buffer
  /** Of a page, which has no chunks: so that it can be compared before it is sent. */
  readonly pageSha256?: Buffer
}

export interface FinishedPack {
  readonly name: string
  /** Valid until `release`. */
  readonly bytes: Buffer
  readonly directory: Buffer
  readonly blocks: number
  readonly pages: ReadonlyMap<number, Buffer>
}

/** One open pack. Blocks are sealed as they come, each under its own number. */
export class PackBuilder {
  readonly #place: SealPlace
  #buffer: Buffer
  readonly #salt = randomBytes(SALT_BYTES)
  readonly #dataKey: Buffer
  readonly #indexKey: Buffer
  readonly #rows: DirectoryRow[] = []
  readonly #pages = new Map<number, Buffer>()
  #length: number = HEADER
  #directoryLength = 0
  #chunks = 0

  constructor(backup: BackupPlaceRef, attempt: number, keys: Required<AttemptKeys>, buffer: Buffer) {
    this.#place = { backup, attempt, object: `packs/${attempt}-${randomBase32(16)}` }
    this.#buffer = buffer
    this.#dataKey = packDataKey(keys.dataKey, this.#salt)
    this.#indexKey = packIndexKey(keys.indexKey, this.#salt)
    PACK_MAGIC.copy(buffer)
  }

  get blocks(): number {
    return this.#rows.length
  }

  /** To be used again once the pack is confirmed. */
  get buffer(): Buffer {
    return this.#buffer
  }

  hasRoomFor(block: PackBlock): boolean {
    const sealed = block.packed.bytes.length + TAG_BYTES
    const directory = this.#directoryLength + directoryBytes(block.lengths.length) + TAG_BYTES
    return this.#length + sealed + directory + PACK_TRAILER <= TARGETS.pack && this.blocks < LIMITS.blocksPerPack
  }

  /** The number of the block in this pack. */
  append(block: PackBlock): number {
    const number = this.#rows.length
    const key = block.kind === 'index' ? this.#indexKey : this.#dataKey
    const sealed = seal(key, this.#place, block.kind, number, block.packed.bytes)
    this.#add(sealed)
    this.#directoryLength += directoryBytes(block.lengths.length)
    this.#chunks += block.lengths.length
    if (block.pageSha256) this.#pages.set(number, block.pageSha256)
    const { kind, plainLength, lengths, names } = block
    this.#rows.push({ kind, codec: block.packed.codec, sealedLength: sealed.length, plainLength, lengths, names })
    return number
  }

  finish(): FinishedPack {
    const directory = writeDirectory(this.#rows)
    const sealedDirectory = directory.length + TAG_BYTES
    const length = this.#length + sealedDirectory + PACK_TRAILER
    // sealed padding is at least a tag long, so a smaller gap is widened to the next length but one
    const padded = padme(length) === length ? length : padme(length + TAG_BYTES)
    const padding = padded - length
    if (padding > 0) this.#add(seal(this.#indexKey, this.#place, 'padding', NUMBER.padding, Buffer.alloc(padding - TAG_BYTES)))
    this.#add(seal(this.#indexKey, this.#place, 'directory', NUMBER.directory, directory))
    this.#add(this.#salt)
    const footer = Buffer.alloc(16)
    footer.writeUInt32LE(sealedDirectory, 0)
    footer.writeUInt32LE(padding, 4)
    footer.writeUInt32LE(this.#rows.length, 8)
    footer.writeUInt32LE(this.#chunks, 12)
    this.#add(seal(this.#indexKey, this.#place, 'footer', NUMBER.footer, footer))
    return {
      name: this.#place.object,
      bytes: this.#buffer.subarray(0, this.#length),
      directory,
      blocks: this.blocks,
      pages: this.#pages,
    }
  }

  #add(sealed: Buffer): void {
    if (this.#length + sealed.length > this.#buffer.length) {
      // small backups never need a whole pack's memory
      const whole = Buffer.allocUnsafeSlow(LIMITS.pack)
      this.#buffer.copy(whole, 0, 0, this.#length)
      this.#buffer = whole
    }
    sealed.copy(this.#buffer, this.#length)
    this.#length += sealed.length
  }
}

/** Opens parts of one pack. Who gets the bytes (whole, or by ranges) is the caller's affair. */
export class PackOpener {
  readonly #place: SealPlace
  readonly #dataKey: Buffer | undefined
  readonly #indexKey: Buffer
  readonly key: string

  /** `trailer`: the pack's last 64 bytes. */
  constructor(place: SealPlace, keys: AttemptKeys, trailer: Buffer) {
    this.#place = place
    this.key = `${placeOf(place.backup)}/${place.object}`
    if (trailer.length < PACK_TRAILER) throw this.fail('it is too short')
    const salt = trailer.subarray(-PACK_TRAILER, -FOOTER_BYTES)
    this.#dataKey = keys.dataKey && packDataKey(keys.dataKey, salt)
    this.#indexKey = packIndexKey(keys.indexKey, salt)
  }

  fail = (what: string, cause?: unknown): Error => damaged(this.key, what, cause)

  footer(trailer: Buffer): { directoryLength: number; paddingLength: number; blocks: number; chunks: number } {
    const sealed = trailer.subarray(-FOOTER_BYTES)
    const reader = new ByteReader(unseal(this.#indexKey, this.#place, 'footer', NUMBER.footer, sealed), this.fail)
    const [directoryLength, paddingLength, blocks, chunks] = [reader.u32(), reader.u32(), reader.u32(), reader.u32()]
    if (directoryLength > LIMITS.pack || paddingLength > LIMITS.pack) throw this.fail('its footer has a bad length')
    return { directoryLength, paddingLength, blocks, chunks }
  }

  directory(sealed: Buffer, blocks: number, packSize: number): Directory {
    const plain = unseal(this.#indexKey, this.#place, 'directory', NUMBER.directory, sealed)
    return Directory.read(plain, blocks, packSize, this.fail)
  }

  /** Plaintext of a block, of the right length; its chunks are not hashed yet. */
  async block(directory: Directory, number: number, sealed: Buffer): Promise<Buffer> {
    const kind = directory.kind(number)
    const key = kind === 'index' ? this.#indexKey : this.#dataKey
    if (!key) throw new TypeError('a block of data was asked of who holds only the index key')
    const bytes = unseal(key, this.#place, kind, number, sealed)
    return await decompress({ codec: directory.codec(number), bytes }, directory.plainLength(number), this.fail)
  }

  padding(sealed: Buffer): void {
    const plain = unseal(this.#indexKey, this.#place, 'padding', NUMBER.padding, sealed)
    if (plain.some((byte) => byte !== 0)) throw this.fail('its padding is not empty')
  }
}

export interface WholePack {
  readonly directory: Directory
  readonly chunks: number
}

/**
 * Opens every part of a pack and hashes every chunk. `onBlock` sees each plaintext. Used on packs before they are sent
 * (restic 0.16 learned it the hard way: the zstd library corrupted data twice) and by `verify`.
 */
export async function openWholePack(
  opener: PackOpener,
  bytes: Buffer,
  onBlock?: (number: number, plain: Buffer, directory: Directory) => void,
): Promise<WholePack> {
  if (bytes.length < HEADER + TAG_BYTES + PACK_TRAILER || bytes.length > LIMITS.pack) throw opener.fail('it has a bad size')
  if (!bytes.subarray(0, HEADER).equals(PACK_MAGIC)) throw opener.fail('it is no pack')
  const trailerAt = bytes.length - PACK_TRAILER
  const { directoryLength, paddingLength, blocks, chunks } = opener.footer(bytes.subarray(trailerAt))
  const directoryAt = trailerAt - directoryLength
  if (directoryAt < HEADER) throw opener.fail('its directory does not fit')
  const directory = opener.directory(bytes.subarray(directoryAt, trailerAt), blocks, bytes.length)
  const blocksEnd = blocks === 0 ? HEADER : directory.end(blocks - 1)
  if (blocksEnd + paddingLength !== directoryAt || directory.chunks !== chunks) throw opener.fail('its parts do not fit together')
  if (paddingLength > 0) opener.padding(bytes.subarray(blocksEnd, directoryAt))
  for (let n = 0; n < blocks; n++) {
    const plain = await opener.block(directory, n, bytes.subarray(directory.offset(n), directory.end(n)))
    checkChunks(opener, directory, n, plain)
    onBlock?.(n, plain, directory)
  }
  return { directory, chunks }
}

/** Compares the name of each chunk of a block with its content. */
export function checkChunks(opener: PackOpener, directory: Directory, block: number, plain: Buffer): void {
  let at = 0
  for (let n = 0; n < directory.chunksOf(block); n++) {
    const end = at + directory.chunkLength(block, n)
    if (!sha256(plain.subarray(at, end)).equals(directory.chunkName(block, n))) {
      throw opener.fail(`chunk ${n} of block ${block} is not what its name says`)
    }
    at = end
  }
}
