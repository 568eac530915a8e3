import { createHash } from 'node:crypto'
import type { ArtifactInfo, Extent, TreeEntry, TreeOutput } from '../artifacts.ts'
import type { Manifest } from '../manifest/manifest.ts'
import type { Fingerprint } from '../results.ts'
import type { BodyReader, Cursor } from './body-reader.ts'
import { readChunks } from './chunk-reader.ts'
import { type OpenedParts, openParts } from './opened.ts'
import type { BackupReader, ReaderOptions } from './repository.ts'
import { sampleBackup, verifyStored } from './verify.ts'

/** Opens the contents of a backup. Everything read is checked against the manifest, which the caller has checked. */
export async function openReader(options: ReaderOptions): Promise<BackupReader> {
  const totals = { readBytes: 0, chunks: 0 }
  const parts = await openParts(options, (bytes) => {
    totals.readBytes += bytes
    options.onProgress?.(totals)
  })
  return new RepositoryReader(options, parts, totals)
}

class RepositoryReader implements BackupReader {
  readonly manifest: Manifest
  readonly fingerprint: Fingerprint
  readonly #options: ReaderOptions
  readonly #parts: OpenedParts
  readonly #totals: { readBytes: number; chunks: number }

  constructor(options: ReaderOptions, parts: OpenedParts, totals: { readBytes: number; chunks: number }) {
    this.manifest = options.manifest
    this.fingerprint = parts.contents.head.fingerprint
    this.#options = options
    this.#parts = parts
    this.#totals = totals
  }

  async *artifacts(): AsyncGenerator<ArtifactInfo> {
    for await (const { kind, name, part, bytes, facts } of this.#parts.contents.rows()) yield { kind, name, part, bytes, facts }
  }

  async *openStream(name: string): AsyncGenerator<Buffer> {
    const row = await this.#parts.contents.find('stream', name)
    const digest = createHash('sha256')
    let bytes = 0
    const body = this.#parts.contents.body(row)
    for await (const piece of readChunks(this.#parts.blocks, body.records())) {
      if ('hole' in piece) throw this.#parts.contents.fail(`stream ${JSON.stringify(name)} has a hole`)
      digest.update(piece.name)
      bytes += piece.bytes.length
      this.#totals.chunks++
      yield piece.bytes
    }
    if (bytes !== row.bytes || digest.digest('hex') !== row.digest)
      throw this.#parts.contents.fail(`stream ${JSON.stringify(name)} is not what was stored`)
  }

  async *openTree(name: string, accept?: (entry: TreeEntry) => boolean): AsyncGenerator<TreeOutput> {
    const row = await this.#parts.contents.find('tree', name)
    const digest = createHash('sha256')
    const body = this.#parts.contents.body(row)
    for await (const record of body.records(undefined, (bytes) => void digest.update(bytes))) {
      if (record.kind !== 'entry' || (accept && !accept(record.entry))) continue
      const { entry, after } = record
      yield entry.type === 'file' && !entry.hardLinkTo ? { ...entry, read: () => this.#extents(body, entry, after) } : entry
    }
    if (digest.digest('hex') !== row.digest)
      throw this.#parts.contents.fail(`tree ${JSON.stringify(name)} is not what was stored`)
  }

  verify(options: Parameters<BackupReader['verify']>[0]) {
    return verifyStored(this.#options, options.onError)
  }

  sample(count: number, options: Parameters<BackupReader['sample']>[1]) {
    return sampleBackup(this.#parts, count, options.onError)
  }

  async close(): Promise<void> {
    // holds nothing but memory
  }

  async *#extents(body: BodyReader, entry: TreeEntry, after: Cursor): AsyncGenerator<Extent> {
    let offset = 0
    const own = untilEntry(body.records(after))
    for await (const piece of readChunks(this.#parts.blocks, own)) {
      if ('hole' in piece) offset += piece.hole
      else {
        this.#totals.chunks++
        if (offset + piece.bytes.length > entry.size) break
        yield { offset, bytes: piece.bytes }
        offset += piece.bytes.length
      }
    }
    if (offset !== entry.size) throw this.#parts.contents.fail(`a file of ${entry.size} bytes has content for ${offset}`)
  }
}

async function* untilEntry<T extends { kind: string }>(records: AsyncIterable<T>): AsyncGenerator<T> {
  for await (const record of records) {
    if (record.kind === 'entry') return
    yield record
  }
}
