import { createHash } from 'node:crypto'
import type {
  ArtifactDigest,
  ArtifactMeta,
  Extent,
  FileContent,
  StreamBytes,
  TreeDigest,
  TreeInput,
  TreeMeta,
} from '../artifacts.ts'
import { HoldfastError, isHoldfastError } from '../errors.ts'
import { type BodyContext, type BodyPlace, BodyWriter } from './body-writer.ts'
import { readBytes } from './byte-source.ts'
import { ByteWriter } from './bytes.ts'
import { BlockFiller, type ChunkStore } from './chunk-store.ts'
import { createChunker } from './chunker.ts'
import { printable, writeEntry } from './entries.ts'
import { sha256 } from './format.ts'
import { IdentityTags } from './identity-tags.ts'
import type { KnownSegment } from './known-blobs.ts'
import type { Effort } from './packing.mjs'

export interface ArtifactContext extends BodyContext {
  readonly store: ChunkStore
  readonly gear: Int32Array
  readonly identityKey: Buffer
  readonly signal: AbortSignal
  onProgress(): void
}

export interface WrittenArtifact<Totals> {
  readonly totals: Totals
  /** Of the names of its chunks, for streams; of the body's records, for trees. */
  readonly digest: Buffer
  readonly body: BodyPlace
}

/** Of pages that are looked up in a base few are new, and with so little to compress there is time to do it well. */
function effortFor({ chunking, compressible }: ArtifactMeta, { options }: ChunkStore): Effort {
  if (compressible === false) return 'none'
  return chunking.kind === 'fixed' && options.known ? 'deep' : 'fitting'
}

/** One stream: cut, stored, and its runs written. */
export async function writeStream(
  meta: ArtifactMeta,
  source: StreamBytes,
  context: ArtifactContext,
): Promise<WrittenArtifact<ArtifactDigest>> {
  const { store, pipeline } = context
  const body = new BodyWriter(context)
  const filler = new BlockFiller(store, effortFor(meta, store))
  const digest = createHash('sha256')
  let stored = 0
  const chunker = createChunker(meta.chunking, context.gear, (chunk) => {
    const name = sha256(chunk)
    digest.update(name)
    stored += chunk.length
    const place = store.put(name, chunk, filler)
    body.run(place.ref, place.index, 1)
  })
  let bytes = 0
  for await (const piece of readBytes(source, context.signal)) {
    chunker.push(piece)
    bytes += piece.length
    store.options.totals.readBytes += piece.length
    await pipeline.room()
    body.drain()
    context.onProgress()
  }
  chunker.end()
  filler.flush()
  if (stored !== bytes) throw new HoldfastError('internal', `${bytes} bytes were cut into chunks of ${stored}`)
  await pipeline.placed()
  return { totals: { bytes }, digest: digest.digest(), body: body.finish().body }
}

/** One tree. Files with the identity that they had in the base are not read. */
export async function writeTree(
  meta: TreeMeta,
  entries: AsyncIterable<TreeInput>,
  context: ArtifactContext,
): Promise<WrittenArtifact<TreeDigest>> {
  const tree = new TreeWriter(meta, context)
  for await (const entry of entries) {
    context.signal.throwIfAborted()
    await tree.add(entry)
    context.onProgress()
  }
  return await tree.finish()
}

class TreeWriter {
  readonly #context: ArtifactContext
  readonly #tags: IdentityTags
  readonly #body: BodyWriter
  readonly #filler: BlockFiller
  readonly #chunker
  /** Used again for each. */
  readonly #entry = new ByteWriter(256)
  #segments: KnownSegment[] = []
  /** Files that vanished while the tree was read. */
  readonly #vanished = new Set<string>()
  #entries = 0
  #bytes = 0
  #unchanged = 0

  constructor(meta: TreeMeta, context: ArtifactContext) {
    this.#context = context
    this.#tags = new IdentityTags(context.identityKey, meta.name)
    this.#body = new BodyWriter(context)
    this.#filler = new BlockFiller(context.store, effortFor(meta, context.store))
    this.#chunker = createChunker(meta.chunking, context.gear, (chunk) => {
      const place = context.store.put(sha256(chunk), chunk, this.#filler)
      this.#run(place.ref, place.index)
    })
  }

  async add(entry: TreeInput): Promise<void> {
    if (entry.content && entry.type === 'file' && !entry.hardLinkTo) {
      if (!this.#takeOver(entry, entry.content) && !(await this.#read(entry, entry.content))) return
    } else {
      if (entry.hardLinkTo && this.#vanished.has(entry.hardLinkTo.toString('latin1'))) throw vanishedLink(entry)
      this.#file(entry, null, entry.size, entry.mtimeNs, [])
    }
    this.#entries++
    if (this.#context.pipeline.isBusy) await this.#context.pipeline.room()
    this.#body.drain()
  }

  async finish(): Promise<WrittenArtifact<TreeDigest>> {
    this.#filler.flush()
    await this.#context.pipeline.placed()
    const { body, records } = this.#body.finish()
    return { totals: { entries: this.#entries, bytes: this.#bytes, unchanged: this.#unchanged }, digest: records, body }
  }

  /** True when the base holds the same file, so that it was taken over without reading it. */
  #takeOver(entry: TreeInput, content: FileContent): boolean {
    const { known, resend, totals } = this.#context.store.options
    if (!known) return false
    const tag = this.#tags.of(entry.path, content.identity)
    const before = known.findFile(tag)
    if (!before || before.size !== entry.size || resend?.concerns(before)) return false
    this.#file(entry, tag, entry.size, entry.mtimeNs, before.segments)
    for (const segment of before.segments) {
      if ('hole' in segment) continue
      totals.chunks += segment.count
      totals.chunksSkipped += segment.count
    }
    totals.skippedBytes += entry.size
    this.#bytes += entry.size
    this.#unchanged++
    return true
  }

  #file(entry: TreeInput, tag: Buffer | null, size: number, mtimeNs: bigint, segments: readonly KnownSegment[]): void {
    this.#entry.clear()
    writeEntry(this.#entry, entry, size, mtimeNs)
    this.#body.file(this.#entry, tag, size, segments)
  }

  /** False when the file has vanished. */
  async #read(entry: TreeInput, content: FileContent): Promise<boolean> {
    this.#segments = []
    let at = 0
    const extents = content.read()
    let end: { identity: string | null; size: number; mtimeNs: bigint }
    try {
      for (;;) {
        const next = await extents.next()
        if (next.done) {
          end = next.value
          break
        }
        at = await this.#extent(entry, at, next.value)
      }
    } catch (error) {
      this.#chunker.end()
      if (!isHoldfastError(error, 'source_missing')) throw error
      this.#vanished.add(entry.path.toString('latin1'))
      return false
    } finally {
      await extents.return?.(undefined as never)
    }
    this.#chunker.end()
    const size = Math.max(end.size, at)
    if (size > at) this.#segments.push({ hole: size - at })
    const tag = end.identity === null ? null : this.#tags.of(entry.path, end.identity)
    this.#file(entry, tag, size, end.mtimeNs, this.#segments)
    this.#bytes += size
    return true
  }

  async #extent(entry: TreeInput, at: number, extent: Extent): Promise<number> {
    if (extent.offset < at) throw new HoldfastError('internal', `${printable(entry.path)} was read backwards`)
    if (extent.offset > at) {
      this.#chunker.end()
      this.#segments.push({ hole: extent.offset - at })
    }
    this.#chunker.push(extent.bytes)
    this.#context.store.options.totals.readBytes += extent.bytes.length
    if (this.#context.pipeline.isBusy) await this.#context.pipeline.room()
    this.#body.drain()
    this.#context.signal.throwIfAborted()
    this.#context.onProgress()
    return extent.offset + extent.bytes.length
  }

  #run(ref: number, index: number): void {
    const last = this.#segments.at(-1)
    if (last && !('hole' in last) && last.ref === ref && last.first + last.count === index) {
      this.#segments[this.#segments.length - 1] = { ...last, count: last.count + 1 }
    } else this.#segments.push({ ref, first: index, count: 1 })
  }
}

const vanishedLink = (entry: TreeInput) =>
  new HoldfastError('source_changed', `${printable(entry.path)} is another name of a file that vanished while it was read`, {
    hint: 'The backup is tried again.',
  })
