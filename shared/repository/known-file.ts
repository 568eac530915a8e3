import { closeSync, fstatSync, openSync } from 'node:fs'
import { crc32 } from 'node:zlib'
import { HoldfastError } from '../errors.ts'
import { Secret } from '../secret.ts'
import type { ChunkUnit } from './chunk-unit.ts'
import { damaged, MIB } from './format.ts'
import { type KnownFileEntry, readBlob } from './known-blobs.ts'
import {
  BLOB_HEADER,
  BLOCK_ROW,
  CHUNK_ROW,
  type KnownHead,
  type KnownOrigin,
  knownHeadSchema,
  PAGE_BYTES,
  pagesFor,
  SEAL_BYTES,
  SEAL_MAGIC,
  TREE_ROW,
} from './known-layout.ts'
import { CACHED_OF_TREES, CheckedPages, NameFilter, SortedPages } from './known-pages.ts'
import { readUpTo } from './positioned.ts'
import type { KnownChunks } from './repository.ts'
import { FileWindow } from './spool-file.ts'

const MAX_HEAD = 64 * MIB

/** A known list opened for look-ups. Every page is read and checked once at the start. */
export class KnownFile implements KnownChunks {
  readonly baseId: string
  readonly baseManifestSha256: Buffer
  readonly gearKey: Secret<Buffer>
  readonly chunkUnit: ChunkUnit
  readonly head: Omit<KnownHead, 'origins'> & { readonly origins: ReadonlyArray<Omit<KnownOrigin, 'packs'>> }
  /** Chunks of each block, by its number here. */
  readonly blockChunks: Uint8Array | Uint16Array
  readonly #fd: number
  readonly #file: string
  readonly #blocks: CheckedPages
  readonly #chunks: SortedPages
  readonly #trees: SortedPages
  readonly #filter: NameFilter
  /** Files come in the order in which the base's backup met them. */
  readonly #blobs: FileWindow

  constructor(file: string) {
    this.#file = file
    this.#fd = openSync(file, 'r')
    this.#blobs = new FileWindow(this.#fd)
    try {
      const { head, manifestSha256 } = this.#readHead()
      // a terabyte's packs have names of 2 MB, which are wanted at the end at most
      this.head = { ...head, origins: head.origins.map(({ packs: _, ...origin }) => origin) }
      this.baseManifestSha256 = manifestSha256
      this.baseId = head.origins[0]?.id ?? ''
      this.gearKey = new Secret(Buffer.from(head.gear_key, 'hex'))
      this.chunkUnit = head.chunk_unit
      this.#blocks = new CheckedPages(this.#fd, head.blocks_at, head.blocks, BLOCK_ROW.bytes, file)
      this.blockChunks = chunksOfBlocks(this.#blocks, head.blocks)
      this.#filter = new NameFilter(head.chunk_rows)
      this.#chunks = new SortedPages(this.#fd, 0, head.chunk_rows, CHUNK_ROW.bytes, CHUNK_ROW.key, file)
      this.#chunks.load((page, at) => this.#filter.add(page, at))
      this.#trees = new SortedPages(this.#fd, head.trees_at, head.tree_rows, TREE_ROW.bytes, TREE_ROW.key, file, CACHED_OF_TREES)
      this.#trees.load(null)
    } catch (error) {
      closeSync(this.#fd)
      throw error
    }
  }

  /** Null when the chunk is not known. The length is part of the answer so that callers can compare. */
  find(name: Buffer): { ref: number; index: number; length: number } | null {
    if (!this.#filter.mayHold(name)) return null
    const row = this.#chunks.find(name)
    if (!row) return null
    return {
      ref: row.readUInt32LE(CHUNK_ROW.ref),
      index: row.readUInt16LE(CHUNK_ROW.index),
      length: row.readUInt32LE(CHUNK_ROW.length),
    }
  }

  /** What the base holds for a file with this tag of path and identity. */
  findFile(tag: Buffer): KnownFileEntry | null {
    const row = this.#trees.find(tag)
    if (!row) return null
    const at = this.head.blobs_at + row.readUIntLE(TREE_ROW.offset, 6)
    const header = this.#blobs.find(BLOB_HEADER, at)
    if (header < 0) throw this.#damaged('it ends too early')
    const { bytes } = this.#blobs
    const [length, sum] = [Math.min(bytes.readUInt32LE(header), MAX_HEAD), bytes.readUInt32LE(header + 4)]
    const blob = this.#blobs.view(length, at + BLOB_HEADER)
    if (!blob) throw this.#damaged('it ends too early')
    if (crc32(blob) !== sum) throw this.#damaged('a file does not fit its checksum')
    return readBlob(blob, this.#damaged)
  }

  readonly #damaged = (what: string): Error => damaged(this.#file, what)

  /** Names of the packs of each origin, by number. Read from the file again. */
  packs(): Array<KnownOrigin['packs']> {
    return this.#readHead().head.origins.map(({ packs }) => packs)
  }

  /** `origin` is a row of `head.origins`, `pack` a number of its packs. */
  block(ref: number): { origin: number; pack: number; block: number; chunks: number } {
    const row = this.#blocks.row(ref)
    return {
      origin: row.readUInt16LE(0),
      pack: row.readUInt32LE(BLOCK_ROW.pack),
      block: row.readUInt16LE(BLOCK_ROW.block),
      chunks: row.readUInt16LE(BLOCK_ROW.chunks),
    }
  }

  /** Every chunk row, sorted by name; a view each, valid until the next. */
  rows(): Iterable<Buffer> {
    return this.#chunks.rows()
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    closeSync(this.#fd)
  }
  #closed = false

  #readHead(): { head: KnownHead; manifestSha256: Buffer } {
    const size = fstatSync(this.#fd).size
    if (size < SEAL_BYTES + 8) throw damaged(this.#file, 'it is too short')
    const tail = this.#read(SEAL_BYTES + 8, size - SEAL_BYTES - 8)
    if (!tail.subarray(8, 8 + SEAL_MAGIC.length).equals(SEAL_MAGIC)) throw damaged(this.#file, 'it was never sealed')
    const length = tail.readUInt32LE(0)
    if (length > MAX_HEAD || length > size) throw damaged(this.#file, 'its head is too long')
    const json = this.#read(length, size - SEAL_BYTES - 8 - length)
    if (crc32(json) !== tail.readUInt32LE(4)) throw damaged(this.#file, 'its head does not fit its checksum')
    const head = knownHeadSchema.safeParse(this.#parse(json))
    if (!head.success) throw damaged(this.#file, 'its head is of another shape', head.error)
    const end = size - SEAL_BYTES - 8 - length
    const expected = head.data.blocks_at + pagesFor(head.data.blocks, BLOCK_ROW.bytes) * PAGE_BYTES
    const trees = pagesFor(head.data.chunk_rows, CHUNK_ROW.bytes) * PAGE_BYTES
    const blobs = trees + pagesFor(head.data.tree_rows, TREE_ROW.bytes) * PAGE_BYTES
    // so that no table is made larger than the file that it is read from
    const fits = expected === end && trees === head.data.trees_at && blobs === head.data.blobs_at && blobs <= head.data.blocks_at
    if (!fits) throw damaged(this.#file, 'its parts do not fit together')
    return { head: head.data, manifestSha256: tail.subarray(8 + SEAL_MAGIC.length) }
  }

  #parse(json: Buffer): unknown {
    try {
      // not by readJson: a list of 20 million chunks names more packs than it lets pass
      return JSON.parse(json.toString('utf8'))
    } catch (cause) {
      throw damaged(this.#file, 'its head is no JSON', cause)
    }
  }

  #read(length: number, at: number): Buffer {
    const bytes = Buffer.allocUnsafe(length)
    if (readUpTo(this.#fd, bytes, at) < length) throw damaged(this.#file, 'it ends too early')
    return bytes
  }
}

/** The list behind the opaque interface. */
export function knownFile(known: KnownChunks): KnownFile {
  if (known instanceof KnownFile) return known
  throw new HoldfastError('internal', 'the known chunks were not opened by this repository')
}

/** A terabyte has a million blocks, nearly always of fewer than 256 chunks: a byte for each, until there is one with more. */
function chunksOfBlocks(rows: CheckedPages, blocks: number): Uint8Array | Uint16Array {
  let counts: Uint8Array | Uint16Array = new Uint8Array(blocks)
  let n = 0
  for (const row of rows.rows()) {
    const chunks = row.readUInt16LE(BLOCK_ROW.chunks)
    if (chunks > 0xff && counts instanceof Uint8Array) counts = Uint16Array.from(counts)
    counts[n++] = chunks
  }
  return counts
}
