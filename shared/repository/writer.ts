import { randomInt } from 'node:crypto'
import path from 'node:path'
import type { ArtifactDigest, ArtifactMeta, StreamBytes, TreeDigest, TreeInput, TreeMeta } from '../artifacts.ts'
import { HoldfastError } from '../errors.ts'
import { keysName } from '../manifest/layout.ts'
import type { Facts } from '../manifest/manifest.ts'
import type { Fingerprint } from '../results.ts'
import { type ArtifactContext, type WrittenArtifact, writeStream, writeTree } from './artifact-writer.ts'
import { BlockPipeline } from './block-pipeline.ts'
import { PageFiller } from './body-writer.ts'
import { ChunkStore } from './chunk-store.ts'
import { atUnit, type ChunkUnit, chunkUnitFor } from './chunk-unit.ts'
import { gearTable } from './chunker.ts'
import { type BlockCodec, CodecThreads, codecThreads } from './codec-threads.ts'
import { EarlierChunks } from './earlier-chunks.ts'
import { finishBackup, type PendingArtifact } from './finish.ts'
import { identityKeyOf, indexKeyOf, LIMITS, PAGE, sha256 } from './format.ts'
import { sealDataKeys } from './keys.ts'
import { KnownDraft } from './known-draft.ts'
import { knownFile } from './known-file.ts'
import { OwnChunks } from './own-chunks.ts'
import { Packer } from './packer.ts'
import { Places } from './places.ts'
import { References } from './references.ts'
import type { BackupWriter, WriterOptions, WriterTotals } from './repository.ts'
import { Resend } from './resend.ts'
import { useEarlierPacks } from './resume.ts'
import { requireZstdToPack } from './zstd-check.ts'

/** Begins a backup, or a further attempt of one. Nothing is stored before the first pack is full, or `finish`. */
export async function openWriter(options: WriterOptions): Promise<BackupWriter> {
  if (options.known && !options.known.gearKey.reveal().equals(options.gearKey.reveal())) {
    throw new HoldfastError('base_unusable', 'the gear key is not that of the base', {
      hint: 'Use the key of the known list, or make a full backup.',
    })
  }
  if ((options.type === 'full') !== (options.known === null)) {
    throw new HoldfastError('base_unusable', `a backup of type ${options.type} ${options.known ? 'with' : 'without'} a base`, {
      hint: 'Only a full leans on nothing.',
    })
  }
  if (options.recipients.length === 0) {
    throw new HoldfastError('key_missing', 'the backup has no recipient', {
      hint: 'Nobody could ever open it: configure a recovery recipient.',
    })
  }
  await requireZstdToPack()
  const writer = new RepositoryWriter(options)
  try {
    await writer.useEarlier()
  } catch (error) {
    await writer.close()
    throw error
  }
  return writer
}

/** Chunks of this backup that are found again within it. */
const OWN_CHUNKS = 1_000_000

class RepositoryWriter implements BackupWriter {
  readonly totals: { -readonly [Key in keyof WriterTotals]: WriterTotals[Key] } = {
    readBytes: 0,
    storedBytes: 0,
    skippedBytes: 0,
    resentBytes: 0,
    chunks: 0,
    chunksSkipped: 0,
    packs: 0,
  }
  readonly #options: WriterOptions
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal
  readonly #codec: BlockCodec
  readonly #packer: Packer
  readonly #pipeline: BlockPipeline
  readonly #context: ArtifactContext
  readonly #artifacts = new Map<string, PendingArtifact | null>()
  readonly #draft: KnownDraft
  readonly #beyond: EarlierChunks
  readonly #own: OwnChunks
  #keysFile: Promise<{ name: string; size: number; sha256: Buffer }> | null = null
  #unit: { readonly unit: ChunkUnit } | null = null
  #state: 'open' | 'finished' | 'closed' = 'open'

  constructor(options: WriterOptions) {
    this.#options = options
    this.#signal = AbortSignal.any([options.signal, this.#stop.signal])
    const { backup, attempt } = options
    const dataKey = options.dataKey.reveal()
    const gearKey = options.gearKey.reveal()
    const known = options.known && knownFile(options.known)
    const places = new Places(known?.blockChunks ?? [])
    this.#packer = new Packer({
      backup,
      attempt,
      keys: { dataKey, indexKey: indexKeyOf(dataKey, backup, attempt) },
      objects: options.objects,
      signal: this.#signal,
      draw: options.draw ?? randomInt,
      beforeFirst: async () => void (await this.#storeKeys()),
      onStored: async (pack) => {
        this.totals.storedBytes += pack.size
        this.totals.packs++
        await options.onPackStored?.(pack)
        options.onProgress(this.totals)
      },
    })
    const threads = codecThreads()
    this.#codec = options.codec ?? new CodecThreads(threads)
    this.#pipeline = new BlockPipeline(this.#codec, this.#packer, places, threads * 2 + 3)
    this.#draft = new KnownDraft(options.scratch)
    this.#own = options.ownChunks ?? new OwnChunks(OWN_CHUNKS, path.join(options.scratch, 'own'))
    this.#beyond = new EarlierChunks(options.scratch)
    const { backupIds, permille } = options.resend
    const resend = known && new Resend({ known, backupIds, permille, damagedPacks: options.damagedPacks })
    this.#context = {
      places,
      pipeline: this.#pipeline,
      draft: this.#draft,
      references: new References(places, this.#packer.packs, known),
      treePages: new PageFiller(PAGE.trees, 'index', this.#pipeline),
      store: new ChunkStore({
        ...{ places, own: this.#own, known, resend },
        ...{ earlier: this.#beyond, pipeline: this.#pipeline, draft: this.#draft, totals: this.totals },
      }),
      gear: gearTable(gearKey),
      identityKey: identityKeyOf(gearKey),
      signal: this.#signal,
      onProgress: () => options.onProgress(this.totals),
    }
  }

  /** Before anything else. */
  async useEarlier(): Promise<void> {
    const { backup, earlier } = this.#options
    const { places, own } = this.#context.store.options
    await useEarlierPacks({ backup, earlier, packs: this.#packer.packs, places, own, beyond: this.#beyond, draft: this.#draft })
  }

  stream(meta: ArtifactMeta, bytes: StreamBytes): Promise<ArtifactDigest> {
    const cut = this.#atUnit(meta)
    return this.#artifact('stream', cut, () => writeStream(cut, bytes, this.#context))
  }

  tree(meta: TreeMeta, entries: AsyncIterable<TreeInput>): Promise<TreeDigest> {
    const cut = this.#atUnit(meta)
    return this.#artifact('tree', cut, () => writeTree(cut, entries, this.#context))
  }

  #atUnit<Meta extends ArtifactMeta | TreeMeta>(meta: Meta): Meta {
    return { ...meta, chunking: this.#options.chunking ?? atUnit(meta.chunking, this.#chunkUnit()) }
  }

  /** One for all artifacts: settled when the first begins. */
  #chunkUnit(): ChunkUnit {
    const { known, sourceBytes } = this.#options
    this.#unit ??= { unit: known ? known.chunkUnit : chunkUnitFor(sourceBytes?.() ?? 0) }
    return this.#unit.unit
  }

  async finish(fingerprint: Fingerprint): Promise<Facts> {
    this.#requireOpen()
    const artifacts: PendingArtifact[] = []
    for (const [name, artifact] of this.#artifacts) {
      if (!artifact) throw new HoldfastError('internal', `artifact ${JSON.stringify(name)} is not finished`)
      artifacts.push(artifact)
    }
    const facts = await finishBackup({
      options: this.#options,
      chunkUnit: this.#chunkUnit(),
      context: this.#context,
      packer: this.#packer,
      artifacts,
      fingerprint,
      totals: this.totals,
      draw: this.#options.draw ?? randomInt,
      storeKeys: () => this.#storeKeys(),
      put: (name, bytes) => this.#put(name, bytes),
    })
    this.#state = 'finished'
    this.#closeFiles()
    this.#options.onProgress(this.totals)
    return facts
  }

  async close(): Promise<void> {
    if (this.#state === 'open') this.#closeFiles()
    this.#state = 'closed'
    this.#stop.abort(new HoldfastError('job_cancelled', 'the writer was closed'))
    await Promise.all([this.#packer.settle(), this.#codec.close()])
  }

  async #artifact<Digest extends ArtifactDigest | TreeDigest>(
    kind: 'stream' | 'tree',
    meta: ArtifactMeta | TreeMeta,
    write: () => Promise<WrittenArtifact<Digest>>,
  ): Promise<Digest> {
    this.#requireOpen()
    if (this.#artifacts.has(meta.name)) {
      throw new HoldfastError('already_exists', `there are two artifacts with the name ${JSON.stringify(meta.name)}`)
    }
    if (this.#artifacts.size >= LIMITS.artifacts) throw new HoldfastError('too_large', `more than ${LIMITS.artifacts} artifacts`)
    this.#artifacts.set(meta.name, null)
    const written = await write()
    this.#artifacts.set(meta.name, { kind, meta, ...written })
    return written.totals
  }

  /** Once, before the first pack: without its key a pack is nothing. */
  #storeKeys() {
    this.#keysFile ??= (async () => {
      const { backup, attempt, dataKey, earlier, recipients } = this.#options
      const file = await sealDataKeys(backup, [...earlier, { attempt, dataKey }], recipients)
      return await this.#put(keysName(attempt), file)
    })()
    return this.#keysFile
  }

  async #put(name: string, bytes: Buffer): Promise<{ name: string; size: number; sha256: Buffer }> {
    this.#signal.throwIfAborted()
    const hash = sha256(bytes)
    await this.#options.objects.put(name, bytes, hash, this.#signal)
    this.totals.storedBytes += bytes.length
    return { name, size: bytes.length, sha256: hash }
  }

  #closeFiles(): void {
    this.#draft.close()
    this.#beyond.close()
    this.#own.close()
  }

  #requireOpen(): void {
    if (this.#state !== 'open') throw new HoldfastError('internal', `the writer is ${this.#state}`)
    this.#signal.throwIfAborted()
  }
}
