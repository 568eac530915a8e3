import { closeSync, openSync, readSync, writeSync } from 'node:fs'
import { crc32 } from 'node:zlib'
import { ByteReader, ByteWriter } from './bytes.ts'
import { LIMITS } from './format.ts'
import { BLOB, BLOB_HEADER } from './known-layout.ts'

/** What a file of a tree consists of: runs of known blocks, and holes. */
export type KnownSegment = { readonly ref: number; readonly first: number; readonly count: number } | { readonly hole: number }

export interface KnownFileEntry {
  readonly size: number
  readonly segments: readonly KnownSegment[]
}

/** Segments of files on their way into a known list: a file beside it until the blocks have their numbers. */
export class BlobSpool {
  #fd: number
  readonly #out = new ByteWriter()
  #end = 0

  constructor(file: string) {
    this.#fd = openSync(file, 'wx+', 0o600)
  }

  /** The offset at which it will lie among the blobs. */
  add(entry: KnownFileEntry): number {
    const out = this.#out
    out.clear()
    out.u32(0).u32(0).varint(entry.size)
    for (const segment of entry.segments) {
      if ('hole' in segment) out.u8(BLOB.hole).varint(segment.hole)
      else out.u8(BLOB.run).u32(segment.ref).varint(segment.first).varint(segment.count)
    }
    const bytes = out.view()
    bytes.writeUInt32LE(bytes.length - BLOB_HEADER, 0)
    const at = this.#end
    this.#end += writeSync(this.#fd, bytes, 0, bytes.length, at)
    return at
  }

  /** Every blob in order, its blocks renumbered, its checksum set. */
  *renumbered(numbers: Uint32Array): Generator<Buffer> {
    const header = Buffer.alloc(BLOB_HEADER)
    for (let at = 0; at < this.#end; ) {
      readSync(this.#fd, header, 0, BLOB_HEADER, at)
      const bytes = Buffer.allocUnsafe(BLOB_HEADER + header.readUInt32LE(0))
      readSync(this.#fd, bytes, 0, bytes.length, at)
      renumber(bytes, numbers)
      at += bytes.length
      yield bytes
    }
  }

  close(): void {
    closeSync(this.#fd)
    // a late blob must not go to whatever file has this number next
    this.#fd = -1
  }
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
