import { HoldfastError } from '../errors.ts'
import { type BackupPlaceRef, indexName, manifestKey, objectKey } from '../manifest/layout.ts'
import { type Facts, MAX_MANIFEST_BYTES } from '../manifest/manifest.ts'
import { verifyManifest } from '../manifest/verify.ts'
import type { Secret } from '../secret.ts'
import { BlockSource, fetchObject, type Origin, packsOf } from './block-source.ts'
import { readPage } from './body-reader.ts'
import { ByteReader } from './bytes.ts'
import { CodecThreads } from './codec-threads.ts'
import { damaged, LIMITS, PAGE, sha256 } from './format.ts'
import { type IndexHead, openIndex } from './index-object.ts'
import { keepKnown, openKnown } from './known.ts'
import type { KnownSegment } from './known-blobs.ts'
import { KnownDraft } from './known-draft.ts'
import type { KnownChunks, ObjectSource } from './repository.ts'
import { isRun, RECORD, type Run, type RunState, readRun, START } from './runs.ts'
import { requireZstd } from './zstd-check.ts'

export interface RebuildOptions {
  /** The source's folder of known lists. */
  readonly folder: string
  /** An empty folder of the job's own. */
  readonly scratch: string
  readonly base: BackupPlaceRef & { readonly manifestSha256: Buffer }
  readonly objects: ObjectSource
  /** The agent's own age identity: opens `index`, and nothing else. */
  readonly agentIdentity: Secret
  readonly signal: AbortSignal
}

/**
 * Makes the known list of a base again: what its contents reference from its `index`, the names from the directories of the packs.
 * Throws `key_missing` when an `index` was sealed to another agent identity, `object_missing` or `object_damaged`; the run is a full then.
 */
export async function rebuildKnown(options: RebuildOptions): Promise<KnownChunks> {
  await requireZstd()
  const { base, objects, signal, scratch, folder } = options
  const own = await openOrigin(options, base, base.manifestSha256)
  const leaned: OpenedOrigin[] = []
  for (const lean of own.facts.leans_on) leaned.push(await openOrigin(options, lean, Buffer.from(lean.manifest_sha256, 'hex')))
  const origins = [own, ...leaned]
  // an index has pages alone, so that no thread is ever started
  const decoder = new CodecThreads(1)
  const blocks = new BlockSource({ objects, origins, decoder, signal, onRead: () => undefined })
  const draft = new KnownDraft(scratch)
  try {
    const table = await readChunkPages(own.index, blocks, draft)
    await readTreePages(own.index, blocks, draft, table)
    draft.finish(
      {
        refs: Uint32Array.from({ length: table.length }, (_, ref) => ref),
        limit: table.length,
        isUsed: () => true,
        row: (ref) => table.row(ref),
      },
      [],
      {
        gearKey: Buffer.from(own.index.gear_key, 'hex'),
        chunkUnit: own.index.chunk_unit ?? null,
        origins: origins.map(describe),
      },
    )
  } finally {
    draft.close()
  }
  await keepKnown(scratch, folder, { id: base.id, manifestSha256: base.manifestSha256 })
  const known = await openKnown(folder, { id: base.id, manifestSha256: base.manifestSha256 })
  if (!known) throw new HoldfastError('internal', `the known list of ${base.id} does not open after it was made again`)
  return known
}

interface OpenedOrigin extends Origin {
  readonly facts: Facts
  readonly index: IndexHead
  readonly manifestSha256: string
}

async function openOrigin(options: RebuildOptions, ref: BackupPlaceRef, expected: Buffer): Promise<OpenedOrigin> {
  const { objects, signal, agentIdentity } = options
  const key = manifestKey(ref)
  const bytes = await objects.get(key, null, signal)
  if (bytes.length > MAX_MANIFEST_BYTES || !sha256(bytes).equals(expected))
    throw damaged(key, 'it is not the manifest that was named')
  // its hash came with the command, so its origin needs no further proof
  const { facts } = verifyManifest(bytes, {}, key).manifest
  const object = facts.objects.find(({ name }) => name === indexName(facts.attempt))
  if (!object || object.size > LIMITS.head) throw damaged(objectKey(ref, indexName(facts.attempt)), 'it has a bad size')
  const sealed = await fetchObject(objects, objectKey(ref, object.name), { offset: 0, length: object.size }, signal)
  const place = { host: ref.host, source: ref.source, id: ref.id }
  const index = await openIndex(sealed, place, facts.attempt, [agentIdentity])
  return {
    facts,
    index,
    manifestSha256: expected.toString('hex'),
    ref: place,
    packs: packsOf(facts),
    keys(attempt) {
      const row = index.keys.find((entry) => entry.attempt === attempt)
      if (!row) throw damaged(objectKey(ref, object.name), `it has no key of attempt ${attempt}`)
      return { indexKey: Buffer.from(row.key, 'hex') }
    },
  }
}

const describe = (origin: OpenedOrigin, n: number) => ({
  ...origin.ref,
  manifest_sha256: n === 0 ? null : origin.manifestSha256,
  packs: origin.packs.map(({ name }) => name),
  bytes: 0,
})

/** The blocks of the chunk pages, which are sorted, in typed arrays. */
class BlockTable {
  length = 0
  #origin = new Uint16Array(1024)
  #pack = new Uint32Array(1024)
  #block = new Uint16Array(1024)
  #chunks = new Uint16Array(1024)

  add(run: Run, chunks: number): void {
    if (this.length === this.#pack.length) this.#grow()
    this.#origin[this.length] = run.origin
    this.#pack[this.length] = run.pack
    this.#block[this.length] = run.block
    this.#chunks[this.length++] = chunks
  }

  row(ref: number): { origin: number; pack: number; block: number; chunks: number } {
    return {
      origin: this.#origin[ref] as number,
      pack: this.#pack[ref] as number,
      block: this.#block[ref] as number,
      chunks: this.#chunks[ref] as number,
    }
  }

  /** -1 when there is none. */
  find(run: Run): number {
    let low = 0
    let high = this.length - 1
    while (low <= high) {
      const middle = (low + high) >>> 1
      const order = compareBlocks(this.row(middle), run)
      if (order === 0) return middle
      if (order < 0) low = middle + 1
      else high = middle - 1
    }
    return -1
  }

  #grow(): void {
    const room = this.#pack.length * 2
    const [origin, pack, block, chunks] = [this.#origin, this.#pack, this.#block, this.#chunks]
    this.#origin = new Uint16Array(room)
    this.#origin.set(origin)
    this.#pack = new Uint32Array(room)
    this.#pack.set(pack)
    this.#block = new Uint16Array(room)
    this.#block.set(block)
    this.#chunks = new Uint16Array(room)
    this.#chunks.set(chunks)
  }
}

type BlockPlace = Pick<Run, 'origin' | 'pack' | 'block'>
const compareBlocks = (a: BlockPlace, b: BlockPlace): number => a.origin - b.origin || a.pack - b.pack || a.block - b.block

async function readChunkPages(index: IndexHead, blocks: BlockSource, draft: KnownDraft): Promise<BlockTable> {
  const table = new BlockTable()
  let last: Run | null = null
  for (const [pack, block] of index.chunks) {
    const { bytes, fail } = await readPage(blocks, pack, block, PAGE.chunks)
    const reader = new ByteReader(bytes, fail, 1)
    let before: RunState = START
    while (reader.left > 0) {
      const tag = reader.u8()
      if (!isRun(tag)) throw fail('an unknown record')
      const run = readRun(reader, tag, before)
      before = run
      const { directory, opener } = await blocks.pack(run.origin, run.pack)
      if (run.block >= directory.blocks || run.first + run.count > directory.chunksOf(run.block))
        throw opener.fail('a run lies outside of it')
      const order = last ? compareBlocks(last, run) : -1
      // each chunk once: else a page of a megabyte could stand for gigabytes of names
      if (order > 0 || (last && order === 0 && run.first < last.first + last.count)) throw fail('its runs are not sorted')
      if (order < 0) table.add(run, directory.chunksOf(run.block))
      last = run
      for (let n = run.first; n < run.first + run.count; n++) {
        draft.addChunk(directory.chunkName(run.block, n), table.length - 1, n, directory.chunkLength(run.block, n))
      }
    }
  }
  return table
}

async function readTreePages(index: IndexHead, blocks: BlockSource, draft: KnownDraft, table: BlockTable): Promise<void> {
  for (const [pack, block] of index.trees) {
    const { bytes, fail } = await readPage(blocks, pack, block, PAGE.trees)
    const reader = new ByteReader(bytes, fail, 1)
    while (reader.left > 0) {
      const row = new ByteReader(reader.sized(LIMITS.page), fail)
      const tag = row.take(16)
      const size = row.varint()
      draft.addFile(tag, { size, segments: readSegments(row, table, fail) })
    }
  }
}

function readSegments(row: ByteReader, table: BlockTable, fail: (what: string) => Error): KnownSegment[] {
  const segments: KnownSegment[] = []
  let before: RunState = START
  while (row.left > 0) {
    const tag = row.u8()
    if (tag === RECORD.hole) segments.push({ hole: row.varint() })
    else if (isRun(tag)) {
      const run = readRun(row, tag, before)
      before = run
      const ref = table.find(run)
      if (ref < 0) throw fail('a file lies in a block that the chunk pages do not name')
      segments.push({ ref, first: run.first, count: run.count })
    } else throw fail('an unknown record')
  }
  return segments
}
