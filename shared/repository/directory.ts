import { ByteReader, ByteWriter } from './bytes.ts'
import { CODECS, type Codec } from './compressor.ts'
import { BLOCK_KINDS, type BlockKind, LIMITS, NAME_BYTES, PACK_MAGIC, TAG_BYTES } from './format.ts'

/** The directory of a pack (FORMAT.md section 5), kept as the bytes it was: a pack may hold a million chunks. */
export class Directory {
  readonly blocks: number
  readonly chunks: number
  readonly #bytes: Buffer
  /** First chunk of each block, and one more for the end. */
  readonly #first: Uint32Array
  /** Offset of each block in the pack, and one more for the end. */
  readonly #offset: Uint32Array

  private constructor(bytes: Buffer, first: Uint32Array, offset: Uint32Array) {
    this.#bytes = bytes
    this.blocks = first.length - 1
    this.chunks = first[this.blocks] as number
    this.#first = first
    this.#offset = offset
  }

  /** `packSize` bounds the offsets. Every number in it is checked here, so that no later look-up can leave its bounds. */
  static read(bytes: Buffer, blocks: number, packSize: number, fail: (what: string) => Error): Directory {
    if (blocks > LIMITS.blocksPerPack || blocks * ROW > bytes.length) throw fail('its directory has too many blocks')
    const reader = new ByteReader(bytes, fail)
    const first = new Uint32Array(blocks + 1)
    const offset = new Uint32Array(blocks + 1)
    let end = HEADER
    let chunks = 0
    for (let n = 0; n < blocks; n++) {
      const kind = reader.u8()
      const codec = reader.u8()
      const sealed = reader.u32()
      const plain = reader.u32()
      const count = reader.u32()
      if (kind >= BLOCK_KINDS.length || codec >= CODECS.length) throw fail('its directory has an unknown block')
      if (sealed < TAG_BYTES || plain > (kind === 0 ? LIMITS.block : LIMITS.page)) throw fail('its directory has a bad length')
      if (count > LIMITS.chunksPerBlock || (kind === 0) !== count > 0) throw fail('its directory has a bad count')
      first[n] = chunks
      offset[n] = end
      chunks += count
      end += sealed
      if (end > packSize) throw fail('its directory points past its end')
    }
    first[blocks] = chunks
    offset[blocks] = end
    if (reader.left !== chunks * (4 + NAME_BYTES)) throw fail('its directory has a bad size')
    const directory = new Directory(bytes, first, offset)
    for (let n = 0; n < blocks; n++) directory.#checkLengths(n, fail)
    return directory
  }

  kind(block: number): BlockKind {
    return BLOCK_KINDS[this.#bytes[block * ROW] as number] as BlockKind
  }
  codec(block: number): Codec {
    return CODECS[this.#bytes[block * ROW + 1] as number] as Codec
  }
  plainLength(block: number): number {
    return this.#bytes.readUInt32LE(block * ROW + 6)
  }
  /** That of `blocks` is where they end. */
  offset(block: number): number {
    return this.#offset[block] as number
  }
  /** Offset of the first byte after the block. */
  end(block: number): number {
    return this.#offset[block + 1] as number
  }
  chunksOf(block: number): number {
    return (this.#first[block + 1] as number) - (this.#first[block] as number)
  }
  chunkLength(block: number, index: number): number {
    return this.#bytes.readUInt32LE(this.blocks * ROW + ((this.#first[block] as number) + index) * 4)
  }
  /** A view of 32 bytes. */
  chunkName(block: number, index: number): Buffer {
    const at = this.blocks * ROW + this.chunks * 4 + ((this.#first[block] as number) + index) * NAME_BYTES
    return this.#bytes.subarray(at, at + NAME_BYTES)
  }

  /** Those of all chunks, in order. */
  get names(): Buffer {
    return this.#bytes.subarray(this.blocks * ROW + this.chunks * 4)
  }

  /** Names of neighbouring chunks, one behind the other. */
  chunkNames(block: number, first: number, count: number): Buffer {
    const at = this.blocks * ROW + this.chunks * 4 + ((this.#first[block] as number) + first) * NAME_BYTES
    return this.#bytes.subarray(at, at + count * NAME_BYTES)
  }

  get bytes(): Buffer {
    return this.#bytes
  }

  #checkLengths(block: number, fail: (what: string) => Error): void {
    if (this.kind(block) !== 'data') return
    let sum = 0
    for (let n = 0; n < this.chunksOf(block); n++) sum += this.chunkLength(block, n)
    if (sum !== this.plainLength(block)) throw fail('its directory has chunks that do not add up')
  }
}

const ROW = 14
const HEADER = PACK_MAGIC.length

/** Bytes that a block adds to its pack's directory. */
export const directoryBytes = (chunks: number): number => ROW + chunks * (4 + NAME_BYTES)

export interface DirectoryRow {
  readonly kind: BlockKind
  readonly codec: Codec
  readonly sealedLength: number
  readonly plainLength: number
  readonly lengths: Uint32Array
  /** 32 bytes for each of `lengths`. */
  readonly names: Buffer
}

export function writeDirectory(rows: readonly DirectoryRow[]): Buffer {
  const out = new ByteWriter(rows.reduce((sum, row) => sum + directoryBytes(row.lengths.length), 0))
  for (const row of rows) {
    out.u8(BLOCK_KINDS.indexOf(row.kind)).u8(CODECS.indexOf(row.codec))
    out.u32(row.sealedLength).u32(row.plainLength).u32(row.lengths.length)
  }
  for (const row of rows) for (const length of row.lengths) out.u32(length)
  for (const row of rows) out.bytes(row.names)
  return out.copy()
}
