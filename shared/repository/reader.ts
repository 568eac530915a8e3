import { createHash } from 'node:crypto'
import type { ArtifactInfo, Extent, TreeEntry, TreeOutput } from '../artifacts.ts'
import { HoldfastError } from '../errors.ts'
import { manifestSha256 } from '../manifest/canonical.ts'
import { contentsName, objectKey } from '../manifest/layout.ts'
import type { Manifest } from '../manifest/manifest.ts'
import type { Fingerprint } from '../results.ts'
import { BlockSource, fetchObject, type Origin, originOf } from './block-source.ts'
import { BodyReader, type Cursor, readPage } from './body-reader.ts'
import { ByteReader } from './bytes.ts'
import { readChunks } from './chunk-reader.ts'
import { type ArtifactRow, artifactRowSchema, type Contents, openContents } from './contents.ts'
import { damaged, LIMITS, PAGE, sha256 } from './format.ts'
import { parseJson } from './keys.ts'
import type { BackupReader, ReaderOptions } from './repository.ts'
import { sampleBackup, verifyBackup } from './verify.ts'

/** Opens the contents of a backup. Everything read is checked against the manifest, which the caller has checked. */
export async function openReader(options: ReaderOptions): Promise<BackupReader> {
  const { facts } = options.manifest
  const ref = { host: facts.host, source: facts.source, id: facts.id }
  const origins = collectOrigins(options)
  const totals = { readBytes: 0, chunks: 0 }
  const blocks = new BlockSource(options.objects, origins, options.signal, (bytes) => {
    totals.readBytes += bytes
    options.onProgress?.(totals)
  })
  const contents = await readContents(options, origins[0] as Origin)
  const leaned = facts.leans_on.map(({ id, manifest_sha256 }) => `${id} ${manifest_sha256}`)
  if (leaned.join() !== contents.origins.map(({ id, manifest_sha256 }) => `${id} ${manifest_sha256}`).join()) {
    throw damaged(objectKey(ref, contentsName(facts.attempt)), 'it leans on other backups than the manifest says')
  }
  return new RepositoryReader(options, origins, contents, blocks, totals)
}

/** Origin 0 is the backup itself. */
function collectOrigins(options: ReaderOptions): Origin[] {
  const { facts } = options.manifest
  const leaned = facts.leans_on.map((lean) => {
    const manifest = options.leansOn.get(lean.id)
    const key = `${lean.host}/${lean.source}/${lean.id}/manifest.json`
    if (!manifest) {
      throw new HoldfastError('object_missing', `${key} is missing, and the backup leans on it`, {
        hint: 'Read the backup from a target where everything it leans on is good too.',
        context: { key },
      })
    }
    const { host, source, id } = manifest.facts
    const same = host === lean.host && source === lean.source && id === lean.id
    if (!same || manifestSha256(manifest) !== lean.manifest_sha256)
      throw damaged(key, 'it is not the manifest that was leaned on')
    return manifest
  })
  return [options.manifest, ...leaned].map(({ facts: of }) => originOf(of, (attempt) => options.keys(of.id, attempt)?.reveal()))
}

async function readContents(options: ReaderOptions, own: Origin): Promise<Contents> {
  const { facts } = options.manifest
  const key = objectKey(own.ref, contentsName(facts.attempt))
  const object = facts.objects.find(({ name }) => name === contentsName(facts.attempt))
  if (!object) throw damaged(key, 'the manifest does not name it')
  if (object.size > LIMITS.head) throw damaged(key, 'it is too large')
  const bytes = await fetchObject(options.objects, key, { offset: 0, length: object.size }, options.signal)
  if (sha256(bytes).toString('hex') !== object.sha256) throw damaged(key, 'its bytes are not those that were stored')
  const { dataKey } = own.keys(facts.attempt)
  return openContents(bytes, own.ref, facts.attempt, dataKey as Buffer)
}

export class RepositoryReader implements BackupReader {
  readonly manifest: Manifest
  readonly fingerprint: Fingerprint
  readonly options: ReaderOptions
  readonly origins: readonly Origin[]
  readonly contents: Contents
  readonly blocks: BlockSource
  readonly #totals: { readBytes: number; chunks: number }

  constructor(
    options: ReaderOptions,
    origins: readonly Origin[],
    contents: Contents,
    blocks: BlockSource,
    totals: { readBytes: number; chunks: number },
  ) {
    this.options = options
    this.manifest = options.manifest
    this.fingerprint = contents.fingerprint
    this.origins = origins
    this.contents = contents
    this.blocks = blocks
    this.#totals = totals
  }

  async *artifacts(): AsyncGenerator<ArtifactInfo> {
    for await (const { kind, name, part, bytes, facts } of this.rows()) yield { kind, name, part, bytes, facts }
  }

  async *openStream(name: string): AsyncGenerator<Buffer> {
    const row = await this.#find('stream', name)
    const digest = createHash('sha256')
    let bytes = 0
    const body = this.body(row)
    for await (const piece of readChunks(this.blocks, body.records())) {
      if ('hole' in piece) throw this.fail(`stream ${JSON.stringify(name)} has a hole`)
      digest.update(piece.bytes)
      bytes += piece.bytes.length
      this.#totals.chunks++
      yield piece.bytes
    }
    if (bytes !== row.bytes || digest.digest('hex') !== row.sha256)
      throw this.fail(`stream ${JSON.stringify(name)} is not what was stored`)
  }

  async *openTree(name: string, accept?: (entry: TreeEntry) => boolean): AsyncGenerator<TreeOutput> {
    const row = await this.#find('tree', name)
    const digest = createHash('sha256')
    const body = this.body(row)
    for await (const record of body.records(undefined, (bytes) => void digest.update(bytes))) {
      if (record.kind !== 'entry' || (accept && !accept(record.entry))) continue
      const { entry, after } = record
      yield entry.type === 'file' && !entry.hardLinkTo ? { ...entry, read: () => this.#extents(body, entry, after) } : entry
    }
    if (digest.digest('hex') !== row.sha256) throw this.fail(`tree ${JSON.stringify(name)} is not what was stored`)
  }

  verify(options: Parameters<BackupReader['verify']>[0]) {
    return verifyBackup(this, options.onError)
  }

  sample(count: number, options: Parameters<BackupReader['sample']>[1]) {
    return sampleBackup(this, count, options.onError)
  }

  async close(): Promise<void> {
    // holds nothing but memory
  }

  /** Every artifact row in order of names. */
  async *rows(fromPage = 0): AsyncGenerator<ArtifactRow> {
    for (const { pack, block } of this.contents.artifacts.pages.slice(fromPage)) {
      const { bytes, fail } = await readPage(this.blocks, pack, block, PAGE.artifacts)
      const reader = new ByteReader(bytes, fail, 1)
      while (reader.left > 0) {
        const row = artifactRowSchema.safeParse(parseJson(reader.sized(LIMITS.artifactRow)))
        if (!row.success) throw fail('an artifact is of another shape')
        yield row.data
      }
    }
  }

  body(row: ArtifactRow): BodyReader {
    return new BodyReader(row, this.blocks, this.fail)
  }

  get contentsKey(): string {
    return objectKey(this.manifest.facts, contentsName(this.manifest.facts.attempt))
  }

  fail = (what: string): HoldfastError => damaged(this.contentsKey, what)

  async #find(kind: 'stream' | 'tree', name: string): Promise<ArtifactRow> {
    const wanted = Buffer.from(name)
    const { pages } = this.contents.artifacts
    let page = 0
    while (page + 1 < pages.length && Buffer.from(pages[page + 1]?.first ?? '').compare(wanted) <= 0) page++
    for await (const row of this.rows(page)) {
      if (row.name === name && row.kind === kind) return row
      if (Buffer.from(row.name).compare(wanted) > 0) break
    }
    throw new HoldfastError('not_found', `the backup has no ${kind} ${JSON.stringify(name)}`, {
      hint: 'Look at what the backup holds with: holdfast show ID',
    })
  }

  async *#extents(body: BodyReader, entry: TreeEntry, after: Cursor): AsyncGenerator<Extent> {
    let offset = 0
    const own = untilEntry(body.records(after))
    for await (const piece of readChunks(this.blocks, own)) {
      if ('hole' in piece) offset += piece.hole
      else {
        this.#totals.chunks++
        if (offset + piece.bytes.length > entry.size) break
        yield { offset, bytes: piece.bytes }
        offset += piece.bytes.length
      }
    }
    if (offset !== entry.size) throw this.fail(`a file of ${entry.size} bytes has content for ${offset}`)
  }
}

async function* untilEntry<T extends { kind: string }>(records: AsyncIterable<T>): AsyncGenerator<T> {
  for await (const record of records) {
    if (record.kind === 'entry') return
    yield record
  }
}
