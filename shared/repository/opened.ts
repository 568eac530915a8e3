import { HoldfastError } from '../errors.ts'
import { readJson } from '../json.ts'
import { manifestSha256 } from '../manifest/canonical.ts'
import { contentsName, objectKey } from '../manifest/layout.ts'
import { BlockSource, fetchObject, type Origin, originOf } from './block-source.ts'
import { BodyReader, readPage } from './body-reader.ts'
import { ByteCache } from './byte-cache.ts'
import { ByteReader } from './bytes.ts'
import { type BlockDecoder, CodecThreads, codecThreads } from './codec-threads.ts'
import { type ArtifactRow, artifactRowSchema, type Contents, openContents } from './contents.ts'
import { damaged, LIMITS, MIB, PAGE, sha256 } from './format.ts'
import type { ReaderOptions } from './repository.ts'
import { Spill } from './spill.ts'
import { requireZstd } from './zstd-check.ts'

/** A backup whose contents are open: what reading, verifying and sampling share. */
export interface OpenedParts {
  /** Origin 0 is the backup itself. */
  readonly origins: readonly Origin[]
  readonly blocks: BlockSource
  readonly contents: OpenedContents
  close(): Promise<void>
}

/** A backup that stored more than this is worth threads from the beginning: what is left to the first block they would load while it waits. */
const MUCH = 16 * MIB

function threadsFor({ facts }: ReaderOptions['manifest']): CodecThreads {
  const threads = new CodecThreads(codecThreads())
  if (facts.stored_bytes > MUCH) threads.prepare()
  return threads
}

/**
 * Throws `object_missing`, `object_damaged`, `key_missing`. Everything is checked against the manifests, which the caller has checked. `decoder` is closed
 * with what is opened, or when nothing is.
 */
export async function openParts(
  options: ReaderOptions,
  onRead: (bytes: number) => void = () => undefined,
  decoder: BlockDecoder = threadsFor(options.manifest),
): Promise<OpenedParts> {
  try {
    return await open(options, onRead, decoder)
  } catch (error) {
    await decoder.close()
    throw error
  }
}

async function open(options: ReaderOptions, onRead: (bytes: number) => void, decoder: BlockDecoder): Promise<OpenedParts> {
  await requireZstd()
  const { facts } = options.manifest
  const origins = collectOrigins(options)
  const own = origins[0] as Origin
  const key = objectKey(own.ref, contentsName(facts.attempt))
  const head = await readContents(options, own, key)
  const leaned = facts.leans_on.map(({ id, manifest_sha256 }) => `${id} ${manifest_sha256}`)
  if (leaned.join() !== head.origins.map(({ id, manifest_sha256 }) => `${id} ${manifest_sha256}`).join()) {
    throw damaged(key, 'it leans on other backups than the manifest says')
  }
  const { objects, signal } = options
  // what a backup has stored itself is wanted once
  const spill = options.scratch !== undefined && origins.length > 1 ? new Spill(options.scratch) : null
  const blocks = new BlockSource({ objects, origins, decoder, signal, onRead, ...(spill ? { spill } : {}) })
  const close = async () => {
    spill?.close()
    await decoder.close()
  }
  return { origins, blocks, contents: new OpenedContents(key, head, blocks), close }
}

/** Artifacts of a backup, page by page. */
export class OpenedContents {
  readonly head: Contents
  readonly #key: string
  readonly #blocks: BlockSource
  /** Engines ask for artifacts in about the order in which they stand. */
  readonly #pages = new ByteCache<ReadonlyMap<string, ArtifactRow>>(4 * MIB)

  constructor(key: string, head: Contents, blocks: BlockSource) {
    this.#key = key
    this.head = head
    this.#blocks = blocks
  }

  fail = (what: string): HoldfastError => damaged(this.#key, what)

  /** Every artifact row in order of names. */
  async *rows(): AsyncGenerator<ArtifactRow> {
    for (let page = 0; page < this.head.artifacts.pages.length; page++) yield* (await this.#page(page)).values()
  }

  body(row: ArtifactRow): BodyReader {
    return new BodyReader(row, this.#blocks, this.fail)
  }

  /** Throws `not_found`. */
  async find(kind: 'stream' | 'tree', name: string): Promise<ArtifactRow> {
    const wanted = Buffer.from(name)
    const { pages } = this.head.artifacts
    let page = 0
    while (page + 1 < pages.length && Buffer.from(pages[page + 1]?.first ?? '').compare(wanted) <= 0) page++
    const row = pages.length > 0 ? (await this.#page(page)).get(name) : undefined
    if (row?.kind === kind) return row
    throw new HoldfastError('not_found', `the backup has no ${kind} ${JSON.stringify(name)}`, {
      hint: 'Look at what the backup holds with: holdfast show ID',
    })
  }

  /** Rows of a page by name, in order. */
  #page(page: number): Promise<ReadonlyMap<string, ArtifactRow>> {
    return this.#pages.get(String(page), async () => {
      const { pack, block } = this.head.artifacts.pages[page] as Contents['artifacts']['pages'][number]
      const { bytes, fail } = await readPage(this.#blocks, pack, block, PAGE.artifacts)
      const reader = new ByteReader(bytes, fail, 1)
      const rows = new Map<string, ArtifactRow>()
      while (reader.left > 0) {
        const row = readJson(reader.sized(LIMITS.artifactRow), artifactRowSchema)
        if (!row.success || rows.has(row.data.name)) throw fail('an artifact is of another shape, or there twice')
        rows.set(row.data.name, row.data)
      }
      return { value: rows, bytes: bytes.length }
    })
  }
}

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

async function readContents(options: ReaderOptions, own: Origin, key: string): Promise<Contents> {
  const { facts } = options.manifest
  const object = facts.objects.find(({ name }) => name === contentsName(facts.attempt))
  if (!object) throw damaged(key, 'the manifest does not name it')
  if (object.size > LIMITS.head) throw damaged(key, 'it is too large')
  const bytes = await fetchObject(options.objects, key, { offset: 0, length: object.size }, options.signal)
  if (sha256(bytes).toString('hex') !== object.sha256) throw damaged(key, 'its bytes are not those that were stored')
  const { dataKey } = own.keys(facts.attempt)
  return openContents(bytes, own.ref, facts.attempt, dataKey as Buffer)
}
