import { crc32 } from 'node:zlib'
import { z } from 'zod'
import { CHUNK_UNITS } from './chunk-unit.ts'
import { damaged } from './format.ts'

/**
 * The agent's list of known chunks: one immutable file of its own for each backup, no part of the repository. Rows are in pages
 * with a checksum, read by positioned reads (Node has no mmap).
 *
 *   chunk pages   rows: name (32), block u32, index u16, length u32; sorted by name
 *   tree pages    rows: tag (16), offset of its blob among the blobs (6 bytes); sorted by tag
 *   blobs         u32 length, u32 CRC-32, then: varint size; runs (1, u32 block, varint first, count) and holes (2, varint length)
 *   block pages   rows: origin u16, pack u32, block u16, chunks u16; in the order of their numbers
 *   JSON          sections, origins, gear key, unit of chunks; after it u32 length, u32 CRC-32
 *   seal          40 bytes, added once the backup is committed: magic, manifest's SHA-256
 *
 * It is rebuilt from the backup's `index` when anything in it is wrong.
 */

export const PAGE_BYTES = 4096
const PAGE_ROOM = PAGE_BYTES - 4

export const CHUNK_ROW = { bytes: 42, key: 32, ref: 32, index: 36, length: 38 } as const
export const TREE_ROW = { bytes: 22, key: 16, offset: 16 } as const
export const BLOCK_ROW = { bytes: 10, pack: 2, block: 6, chunks: 8 } as const
export const SEAL_MAGIC = Buffer.from('HFKNOWN1')
export const SEAL_BYTES = SEAL_MAGIC.length + 32

/** Before each blob: length and CRC-32. */
export const BLOB_HEADER = 8
/** Tags of a blob's records. A block's number has a fixed size, so that renumbering moves nothing. */
export const BLOB = { run: 1, hole: 2 } as const

export const rowsPerPage = (rowBytes: number): number => Math.floor(PAGE_ROOM / rowBytes)
export const pagesFor = (rows: number, rowBytes: number): number => Math.ceil(rows / rowsPerPage(rowBytes))

const hex = z.string().regex(/^[0-9a-f]{64}$/)
const count = z.number().int().nonnegative()

export const knownHeadSchema = z.strictObject({
  format: z.literal(2),
  gear_key: hex,
  chunk_unit: z.literal(CHUNK_UNITS).nullable(),
  chunk_rows: count,
  tree_rows: count,
  /** Offsets of the sections. */
  trees_at: count,
  blobs_at: count,
  blocks_at: count,
  blocks: count,
  /** The first is the backup itself; its manifest's hash is in the seal. */
  origins: z.array(
    z.strictObject({
      host: z.string(),
      source: z.string(),
      id: z.string(),
      manifest_sha256: hex.nullable(),
      /** Names by number. Only those that are used; others are null. */
      packs: z.array(z.string().nullable()),
      /** Of the chunks in it that the backup references, each counted once. */
      bytes: count,
    }),
  ),
})
export type KnownHead = z.infer<typeof knownHeadSchema>
export type KnownOrigin = KnownHead['origins'][number]

/** Writes rows into checksummed pages. */
export class PageWriter {
  readonly #rowBytes: number
  readonly #write: (bytes: Buffer) => void
  readonly #page = Buffer.alloc(PAGE_BYTES)
  #fill = 0
  rows = 0

  constructor(rowBytes: number, write: (bytes: Buffer) => void) {
    this.#rowBytes = rowBytes
    this.#write = write
  }

  add(row: Buffer): void {
    row.copy(this.#page, this.#fill * this.#rowBytes)
    this.rows++
    if (++this.#fill === rowsPerPage(this.#rowBytes)) this.end()
  }

  end(): void {
    if (this.#fill === 0) return
    this.#page.fill(0, this.#fill * this.#rowBytes, PAGE_ROOM)
    this.#page.writeUInt32LE(crc32(this.#page.subarray(0, PAGE_ROOM)), PAGE_ROOM)
    this.#write(this.#page)
    this.#fill = 0
  }
}

export function checkPage(page: Buffer, file: string): void {
  if (crc32(page.subarray(0, PAGE_ROOM)) !== page.readUInt32LE(PAGE_ROOM)) throw damaged(file, 'a page does not fit its checksum')
}
