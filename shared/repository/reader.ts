import { createHash } from 'node:crypto'
import type { ArtifactInfo, EarlierTree, Extent, TreeEntry, TreeOutput } from '../artifacts.ts'
import type { Manifest } from '../manifest/manifest.ts'
import type { Fingerprint } from '../results.ts'
import type { BodyReader, BodyRecord, Cursor } from './body-reader.ts'
import type { BlockDecoder } from './codec-threads.ts'
import { InPlace } from './in-place.ts'
import { type OpenedParts, openParts } from './opened.ts'
import { type Piece, ReadAhead } from './read-ahead.ts'
import type { BackupReader, ReaderOptions, ReaderTotals } from './repository.ts'
import { sampleBackup, verifyStored } from './verify.ts'

/**
 * Opens the contents of a backup. Everything read is checked against the manifest, which the caller has checked. `decoder` opens blocks, threads
 * unless given; it is closed with the reader.
 */
export async function openReader(options: ReaderOptions, decoder?: BlockDecoder): Promise<BackupReader> {
  const totals = { readBytes: 0, foundBytes: 0, chunks: 0 }
  const parts = await openParts(
    options,
    (bytes) => {
      totals.readBytes += bytes
      options.onProgress?.(totals)
    },
    decoder,
  )
  return new RepositoryReader(options, parts, totals)
}

class RepositoryReader implements BackupReader {
  readonly manifest: Manifest
  readonly fingerprint: Fingerprint
  readonly totals: ReaderTotals
  readonly #options: ReaderOptions
  readonly #parts: OpenedParts

  constructor(options: ReaderOptions, parts: OpenedParts, totals: ReaderTotals) {
    this.manifest = options.manifest
    this.fingerprint = parts.contents.head.fingerprint
    this.#options = options
    this.#parts = parts
    this.totals = totals
  }

  async *artifacts(): AsyncGenerator<ArtifactInfo> {
    for await (const { kind, name, part, bytes, facts } of this.#parts.contents.rows()) yield { kind, name, part, bytes, facts }
  }

  async *openStream(name: string): AsyncGenerator<Buffer> {
    const { contents, blocks } = this.#parts
    const row = await contents.find('stream', name)
    const digest = createHash('sha256')
    let bytes = 0
    const ahead = new ReadAhead(blocks, contents.body(row).records())
    try {
      for await (const piece of ahead.content()) {
        if ('hole' in piece) throw contents.fail(`stream ${JSON.stringify(name)} has a hole`)
        digest.update(piece.names)
        bytes += piece.bytes.length
        this.totals.chunks += piece.chunks
        // who reads a stream may keep its pieces: a pipe to a process does
        piece.keep()
        yield piece.bytes
      }
    } finally {
      await ahead.close()
    }
    if (bytes !== row.bytes || digest.digest('hex') !== row.digest)
      throw contents.fail(`stream ${JSON.stringify(name)} is not what was stored`)
  }

  async *openTree(
    name: string,
    accept: (entry: TreeEntry) => boolean = () => true,
    earlier?: EarlierTree,
  ): AsyncGenerator<TreeOutput> {
    const { contents, blocks } = this.#parts
    const row = await contents.find('tree', name)
    const digest = createHash('sha256')
    const body = contents.body(row)
    const records = body.records(undefined, (bytes) => void digest.update(bytes))
    const ahead = new ReadAhead(blocks, chosen(records, accept), earlier ? new InPlace(blocks, earlier) : null)
    try {
      for (let next = await ahead.entry(); next; next = await ahead.entry()) {
        const { entry, after } = next
        yield entry.type === 'file' && !entry.hardLinkTo
          ? { ...entry, read: () => this.#extents(body, entry, after, ahead) }
          : entry
      }
    } finally {
      await ahead.close()
    }
    if (digest.digest('hex') !== row.digest) throw contents.fail(`tree ${JSON.stringify(name)} is not what was stored`)
  }

  verify(options: Parameters<BackupReader['verify']>[0]) {
    return verifyStored(this.#options, options.onError)
  }

  sample(count: number, options: Parameters<BackupReader['sample']>[1]) {
    return sampleBackup(this.#parts, count, options.onError)
  }

  close(): Promise<void> {
    return this.#parts.close()
  }

  #found(bytes: number): void {
    this.totals.foundBytes += bytes
    this.#options.onProgress?.(this.totals)
  }

  async *#extents(body: BodyReader, entry: TreeEntry, after: Cursor, ahead: ReadAhead): AsyncGenerator<Extent> {
    let offset = 0
    for await (const piece of this.#content(body, entry, after, ahead)) {
      if ('hole' in piece) offset += piece.hole
      else {
        this.totals.chunks += piece.chunks
        if (piece.found) this.#found(piece.bytes.length)
        if (offset + piece.bytes.length > entry.size) break
        yield { offset, bytes: piece.bytes }
        offset += piece.bytes.length
      }
    }
    if (offset !== entry.size) throw this.#parts.contents.fail(`a file of ${entry.size} bytes has content for ${offset}`)
  }

  /** By the tree's own reading ahead while the entry is the one that was given out last, and on its own from where that was left. */
  async *#content(body: BodyReader, entry: TreeEntry, after: Cursor, ahead: ReadAhead): AsyncGenerator<Piece> {
    let seen = 0
    for await (const piece of ahead.content(entry)) {
      seen++
      yield piece
    }
    if (ahead.isAt(entry)) return
    const own = new ReadAhead(this.#parts.blocks, untilEntry(body.records(after), seen))
    try {
      yield* own.content()
    } finally {
      await own.close()
    }
  }
}

/** Entries that were asked for, with their content. */
async function* chosen(records: AsyncIterable<BodyRecord>, accept: (entry: TreeEntry) => boolean): AsyncGenerator<BodyRecord> {
  let wanted = false
  for await (const record of records) {
    if (record.kind === 'entry') wanted = accept(record.entry)
    if (wanted) yield record
  }
}

/** The content of one file, but for what was `seen` of it. */
async function* untilEntry(records: AsyncIterable<BodyRecord>, seen: number): AsyncGenerator<BodyRecord> {
  let left = seen
  for await (const record of records) {
    if (record.kind === 'entry') return
    if (left-- <= 0) yield record
  }
}
