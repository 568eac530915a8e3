import { closeSync, fsyncSync, openSync } from 'node:fs'
import path from 'node:path'
import { crc32 } from 'node:zlib'
import { BucketSpool } from './bucket-spool.ts'
import type { ChunkUnit } from './chunk-unit.ts'
import { BlobSpool, type KnownFileEntry } from './known-blobs.ts'
import { BLOCK_ROW, CHUNK_ROW, type KnownHead, PageWriter, TREE_ROW } from './known-layout.ts'
import { FileAppender } from './spool-file.ts'

export interface DraftBlocks {
  /** Numbers of the blocks that the backup references, in the order in which they get new ones. */
  readonly refs: Uint32Array
  /** One above the highest number. */
  readonly limit: number
  isUsed(ref: number, index: number): boolean
  /** `origin` is a row of the head's origins, `pack` a number in it. */
  row(ref: number): { origin: number; pack: number; block: number; chunks: number }
}

export interface DraftHead {
  readonly gearKey: Buffer
  readonly chunkUnit: ChunkUnit
  readonly origins: KnownHead['origins']
}

/** Rows of a base, sorted by name, in the layout of CHUNK_ROW; a view each, valid until the next. */
export type BaseRows = Iterable<Buffer>

/**
 * Collects, while a backup is written (or from its `index`), what the next one has to know, and writes the file at the end. Rows
 * that the contents came not to reference are left out there. Memory is bounded: rows lie in spools under `scratch`.
 */
export class KnownDraft {
  readonly file: string
  readonly #chunks: BucketSpool
  readonly #trees: BucketSpool
  readonly #blobs: BlobSpool

  constructor(scratch: string) {
    this.file = path.join(scratch, 'known')
    this.#chunks = new BucketSpool(path.join(scratch, 'known.chunks'), CHUNK_ROW.bytes, CHUNK_ROW.key)
    this.#trees = new BucketSpool(path.join(scratch, 'known.trees'), TREE_ROW.bytes, TREE_ROW.key)
    this.#blobs = new BlobSpool(path.join(scratch, 'known.blobs'))
  }

  addChunk(name: Buffer, ref: number, index: number, length: number): void {
    this.#chunks.add(name[0] as number, (row) => {
      name.copy(row)
      row.writeUInt32LE(ref, CHUNK_ROW.ref)
      row.writeUInt16LE(index, CHUNK_ROW.index)
      row.writeUInt32LE(length, CHUNK_ROW.length)
    })
  }

  addFile(tag: Buffer, entry: KnownFileEntry): void {
    const at = this.#blobs.add(entry)
    this.#trees.add(tag[0] as number, (row) => {
      tag.copy(row)
      row.writeUIntLE(at, TREE_ROW.offset, 6)
    })
  }

  /** Writes and syncs the file, all but its seal. */
  finish(blocks: DraftBlocks, base: BaseRows, head: DraftHead): void {
    for (const _ of this.steps(blocks, base, head));
  }

  /** The same in steps of a few milliseconds each, for who does something else meanwhile. */
  *steps(blocks: DraftBlocks, base: BaseRows, head: DraftHead): Generator<void> {
    const numbers = new Uint32Array(blocks.limit)
    // the rows of chunks come in the order of their names, and would ask for blocks anywhere
    const originOf = new Uint16Array(blocks.limit)
    blocks.refs.forEach((ref, n) => {
      numbers[ref] = n
      originOf[ref] = blocks.row(ref).origin
    })
    const origins = head.origins.map((origin) => ({ ...origin, bytes: 0 }))
    const fd = openSync(this.file, 'wx+', 0o600)
    const file = new FileAppender(fd)
    const write = (bytes: Buffer): void => file.add(bytes)
    try {
      const chunkRows = yield* this.#writeChunks(blocks, base, { numbers, originOf, origins }, write)
      const treesAt = file.end
      const treeRows = yield* this.#writeTrees(write)
      const blobsAt = file.end
      for (const blob of inSteps(this.#blobs.renumbered(numbers))) {
        if (blob) write(blob)
        else yield
      }
      const blocksAt = file.end
      writeBlocks(blocks, write)
      const full: KnownHead = {
        format: 2,
        gear_key: head.gearKey.toString('hex'),
        chunk_unit: head.chunkUnit,
        chunk_rows: chunkRows,
        tree_rows: treeRows,
        trees_at: treesAt,
        blobs_at: blobsAt,
        blocks_at: blocksAt,
        blocks: blocks.refs.length,
        origins,
      }
      const json = Buffer.from(JSON.stringify(full))
      write(json)
      const tail = Buffer.alloc(8)
      tail.writeUInt32LE(json.length, 0)
      tail.writeUInt32LE(crc32(json), 4)
      write(tail)
      file.flush()
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
  }

  close(): void {
    this.#chunks.close()
    this.#trees.close()
    this.#blobs.close()
  }

  *#writeChunks(
    blocks: DraftBlocks,
    base: BaseRows,
    { numbers, originOf, origins }: { numbers: Uint32Array; originOf: Uint16Array; origins: KnownHead['origins'] },
    write: (bytes: Buffer) => void,
  ): Generator<void, number> {
    const pages = new PageWriter(CHUNK_ROW.bytes, write)
    const renumbered = Buffer.alloc(CHUNK_ROW.bytes)
    const used = (row: Buffer) => blocks.isUsed(row.readUInt32LE(CHUNK_ROW.ref), row.readUInt16LE(CHUNK_ROW.index))
    for (const row of inSteps(merge(this.#chunks.sorted(used), filter(base, used), CHUNK_ROW.key))) {
      if (!row) {
        yield
        continue
      }
      const ref = row.readUInt32LE(CHUNK_ROW.ref)
      row.copy(renumbered)
      renumbered.writeUInt32LE(numbers[ref] as number, CHUNK_ROW.ref)
      pages.add(renumbered)
      const origin = origins[originOf[ref] as number]
      if (origin) origin.bytes += row.readUInt32LE(CHUNK_ROW.length)
    }
    pages.end()
    return pages.rows
  }

  *#writeTrees(write: (bytes: Buffer) => void): Generator<void, number> {
    const pages = new PageWriter(TREE_ROW.bytes, write)
    for (const row of inSteps(this.#trees.sorted(() => true))) {
      if (row) pages.add(row)
      else yield
    }
    pages.end()
    return pages.rows
  }
}

const ROWS_OF_STEP = 4096

/** Null between the rows, whenever it is time to give others their turn. */
function* inSteps(rows: Generator<Buffer>): Generator<Buffer | null> {
  let n = 0
  for (const row of rows) {
    yield row
    if (++n % ROWS_OF_STEP === 0) yield null
  }
}

function writeBlocks(blocks: DraftBlocks, write: (bytes: Buffer) => void): void {
  const pages = new PageWriter(BLOCK_ROW.bytes, write)
  const bytes = Buffer.alloc(BLOCK_ROW.bytes)
  for (const ref of blocks.refs) {
    const row = blocks.row(ref)
    bytes.writeUInt16LE(row.origin, 0)
    bytes.writeUInt32LE(row.pack, BLOCK_ROW.pack)
    bytes.writeUInt16LE(row.block, BLOCK_ROW.block)
    bytes.writeUInt16LE(row.chunks, BLOCK_ROW.chunks)
    pages.add(bytes)
  }
  pages.end()
}

function* filter(rows: BaseRows, keep: (row: Buffer) => boolean): Generator<Buffer> {
  for (const row of rows) if (keep(row)) yield row
}

/** Both sorted; of equal keys the first list's row is taken, which lies in the newer backup. */
function* merge(first: Generator<Buffer>, second: Generator<Buffer>, key: number): Generator<Buffer> {
  let a = first.next()
  let b = second.next()
  while (!a.done && !b.done) {
    const order = a.value.compare(b.value, 0, key, 0, key)
    if (order <= 0) {
      yield a.value
      a = first.next()
      if (order === 0) b = second.next()
    } else {
      yield b.value
      b = second.next()
    }
  }
  for (; !a.done; a = first.next()) yield a.value
  for (; !b.done; b = second.next()) yield b.value
}
