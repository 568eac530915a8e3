import { closeSync, openSync } from 'node:fs'
import { crc32 } from 'node:zlib'
import { ByteReader, ByteWriter } from './bytes.ts'
import { LIMITS } from './format.ts'
import { BLOB, BLOB_HEADER } from './known-layout.ts'
import { FileAppender, FileWindow } from './spool-file.ts'

/** What a file of a tree consists of: runs of known blocks, and holes. */
export type KnownSegment = { readonly ref: number; readonly first: number; readonly count: number } | { readonly hole: number }

export interface KnownFileEntry {
  readonly size: number
  readonly segments: readonly KnownSegment[]
}

/** Segments of files on their way into a known list: a file beside it until the blocks have their numbers. */
export class BlobSpool {
  readonly #fd: number
  readonly #file: FileAppender
  readonly #out = new ByteWriter()
  #closed = false

  constructor(file: string) {
    this.#fd = openSync(file, 'wx+', 0o600)
    this.#file = new FileAppender(this.#fd)
  }

  /** The offset at which it will lie among the blobs. */
  add(entry: KnownFileEntry): number {
    // what is written late must not go to whatever file has this number next
    if (this.#closed) throw new Error('the spool of files is closed')
    const out = this.#out
    out.clear()
    out.u32(0).u32(0).varint(entry.size)
    for (const segment of entry.segments) {
      if ('hole' in segment) out.u8(BLOB.hole).varint(segment.hole)
      else out.u8(BLOB.run).u32(segment.ref).varint(segment.first).varint(segment.count)
    }
    const bytes = out.view()
    bytes.writeUInt32LE(bytes.length - BLOB_HEADER, 0)
    const at = this.#file.end
    this.#file.add(bytes)
    return at
  }

  /** Every blob in order, its blocks renumbered, its checksum set. A view each, valid until the next. */
  *renumbered(numbers: Uint32Array): Generator<Buffer> {
    this.#file.flush()
    const window = new FileWindow(this.#fd)
    for (let at = 0; at < this.#file.end; ) {
      const length = BLOB_HEADER + whole(window.view(BLOB_HEADER, at)).readUInt32LE(0)
      const bytes = whole(window.view(length, at))
      renumber(bytes, numbers)
      at += length
      yield bytes
    }
  }

  close(): void {
    if (!this.#closed) closeSync(this.#fd)
    this.#closed = true
  }
}

function whole(bytes: Buffer | null): Buffer {
  if (bytes) return bytes
  throw new Error('the spool of files has become shorter')
}

function renumber(bytes: Buffer, numbers: Uint32Array): void {
  const reader = new ByteReader(bytes, (what) => new Error(`spool of files: ${what}`), BLOB_HEADER)
  reader.varint()
  while (reader.left > 0) {
    if (reader.u8() === BLOB.hole) {
      reader.varint()
      continue
    }
    bytes.writeUInt32LE(numbers[reader.u32()] as number, reader.at - 4)
    reader.varint()
    reader.varint()
  }
  bytes.writeUInt32LE(crc32(bytes.subarray(BLOB_HEADER)), 4)
}

/** `bytes` without their header. */
export function readBlob(bytes: Buffer, fail: (what: string) => Error): KnownFileEntry {
  const reader = new ByteReader(bytes, fail)
  const size = reader.varint()
  const segments: KnownSegment[] = []
  while (reader.left > 0) {
    const tag = reader.u8()
    if (tag === BLOB.hole) segments.push({ hole: reader.varint() })
    else if (tag === BLOB.run) {
      const ref = reader.u32()
      segments.push({ ref, first: reader.varint(LIMITS.chunksPerBlock), count: reader.varint(LIMITS.chunksPerBlock) })
    } else throw fail('a file has an unknown record')
  }
  return { size, segments }
}
