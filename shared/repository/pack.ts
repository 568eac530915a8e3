import { randomBytes } from 'node:crypto'
import { giveBack } from '../give-back.ts'
import { randomBase32 } from '../ids.ts'
import type { BackupPlaceRef } from '../manifest/layout.ts'
import { ByteReader } from './bytes.ts'
import { decompress, type Packed } from './compressor.ts'
import { Directory, type DirectoryRow, directoryBytes, writeDirectory } from './directory.ts'
import {
  type BlockKind,
  blurred,
  damaged,
  LIMITS,
  NUMBER,
  PACK_MAGIC,
  packDataKey,
  packIndexKey,
  padme,
  placeOf,
  SALT_BYTES,
  type SealKind,
  TAG_BYTES,
  TARGETS,
} from './format.ts'
import type { PackedBlock } from './packing.mjs'
import type { Draw } from './repository.ts'
import { type SealPlace, sealInto, unseal } from './sealer.ts'
import type { Sum } from './sums.mjs'

/** Packs (FORMAT.md section 5): building one in memory, and opening one. */

export const PACK_HEADER = PACK_MAGIC.length
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
  readonly packed: PackedBlock
  readonly plainLength: number
  readonly lengths: Uint32Array
  readonly names: Buffer
}

export interface FinishedPack {
  readonly name: string
  /** Valid until `release`. */
  readonly bytes: Buffer
  readonly directory: Buffer
  readonly blocks: number
  /** Of what was sealed as each block. */
  readonly sums: readonly Sum[]
}

/** One open pack. Blocks are sealed as they come, each under its own number. */
export class PackBuilder {
  readonly #place: SealPlace
  #buffer: Buffer
  readonly #salt = randomBytes(SALT_BYTES)
  readonly #dataKey: Buffer
  readonly #indexKey: Buffer
  readonly #rows: DirectoryRow[] = []
  readonly #sums: Sum[] = []
  #length: number = PACK_HEADER
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
    const sealed = block.packed.length + TAG_BYTES
    const directory = this.#directoryLength + directoryBytes(block.lengths.length) + TAG_BYTES
    return this.#length + sealed + directory + PACK_TRAILER <= TARGETS.pack && this.blocks < LIMITS.blocksPerPack
  }

  /** Whether the block fits into the buffer that it has. */
  holds(block: PackBlock): boolean {
    return this.#length + block.packed.length + TAG_BYTES <= this.#buffer.length
  }

  /** Goes on in a larger one. */
  moveTo(larger: Buffer): void {
    this.#buffer.copy(larger, 0, 0, this.#length)
    giveBack(this.#buffer)
    this.#buffer = larger
  }

  /** The number of the block in this pack. */
  append(block: PackBlock): number {
    const number = this.#rows.length
    const { kind, packed, plainLength, lengths, names } = block
    const sealedLength = this.#seal(kind, number, packed.buffer.subarray(0, packed.length))
    this.#directoryLength += directoryBytes(lengths.length)
    this.#chunks += lengths.length
    this.#sums.push(packed.sum)
    this.#rows.push({ kind, codec: packed.codec, sealedLength, plainLength, lengths, names })
    return number
  }

  /** `draw`: a number below another, to round by chance: see `Packer`. */
  finish(draw: Draw | null = null): FinishedPack {
    const directory = writeDirectory(this.#rows)
    const sealedDirectory = directory.length + TAG_BYTES
    const length = this.#length + sealedDirectory + PACK_TRAILER
    const wanted = draw ? blurred(length, draw) : padme(length)
    // sealed padding is at least a tag long, so a smaller gap is widened to the next length but one
    const padded = wanted === length ? length : Math.max(wanted, padme(length + TAG_BYTES))
    const padding = padded - length
    this.#room(padded - this.#length)
    if (padding > 0) this.#seal('padding', NUMBER.padding, Buffer.alloc(padding - TAG_BYTES))
    this.#seal('directory', NUMBER.directory, directory)
    this.#length += this.#salt.copy(this.#buffer, this.#length)
    const footer = Buffer.alloc(16)
    footer.writeUInt32LE(sealedDirectory, 0)
    footer.writeUInt32LE(padding, 4)
    footer.writeUInt32LE(this.#rows.length, 8)
    footer.writeUInt32LE(this.#chunks, 12)
    this.#seal('footer', NUMBER.footer, footer)
    return {
      name: this.#place.object,
      bytes: this.#buffer.subarray(0, this.#length),
      directory,
      blocks: this.blocks,
      sums: this.#sums,
    }
  }

  /** The sealed length. */
  #seal(kind: SealKind, number: number, plain: Buffer): number {
    this.#room(plain.length + TAG_BYTES)
    const key = kind === 'data' || kind === 'page' ? this.#dataKey : this.#indexKey
    const begin = this.#length
    this.#length = sealInto(this.#buffer, begin, { key, place: this.#place, kind, number, plain })
    return this.#length - begin
  }

  /** A small pack gets no more memory than it needs. */
  #room(more: number): void {
    const wanted = this.#length + more
    if (wanted > this.#buffer.length) this.moveTo(Buffer.allocUnsafeSlow(wanted))
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

  /** A block as it was sealed, not decoded yet. */
  packed(directory: Directory, number: number, sealed: Buffer): Packed {
    const kind = directory.kind(number)
    const key = kind === 'index' ? this.#indexKey : this.#dataKey
    // an index may name any block as a page of it
    if (!key) throw this.fail(`block ${number} is taken for a page of the index`)
    return { codec: directory.codec(number), bytes: unseal(key, this.#place, kind, number, sealed) }
  }

  /** Plaintext of a block, of the right length; its chunks are not hashed yet. */
  async block(directory: Directory, number: number, sealed: Buffer): Promise<Buffer> {
    return await decompress(this.packed(directory, number, sealed), directory.plainLength(number), this.fail)
  }

  padding(sealed: Buffer): void {
    const plain = unseal(this.#indexKey, this.#place, 'padding', NUMBER.padding, sealed)
    if (plain.some((byte) => byte !== 0)) throw this.fail('its padding is not empty')
  }
}
