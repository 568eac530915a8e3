import { allEnded } from '../all-ended.ts'
import type { ArtifactDigest, ArtifactMeta, Chunking, TreeDigest, TreeMeta } from '../artifacts.ts'
import { HoldfastError } from '../errors.ts'
import { contentsName, indexName } from '../manifest/layout.ts'
import type { Facts, ObjectFact } from '../manifest/manifest.ts'
import { type Fingerprint, totalCount } from '../results.ts'
import type { ArtifactContext, WrittenArtifact } from './artifact-writer.ts'
import { PageFiller } from './body-writer.ts'
import { ByteWriter } from './bytes.ts'
import type { ChunkUnit } from './chunk-unit.ts'
import { type ArtifactRow, type Contents, sealContents } from './contents.ts'
import { attemptOfPack, blurred, checkValue, indexKeyOf, LIMITS, PAGE } from './format.ts'
import { type IndexHead, sealIndex } from './index-object.ts'
import { knownFile } from './known-file.ts'
import type { Packer } from './packer.ts'
import type { Draw, WriterOptions, WriterTotals } from './repository.ts'
import { type RunState, START, writeRun } from './runs.ts'
import { usedBlocks } from './used-blocks.ts'

export interface PendingArtifact extends WrittenArtifact<ArtifactDigest | TreeDigest> {
  readonly kind: 'stream' | 'tree'
  readonly meta: ArtifactMeta | TreeMeta
}

interface Stored {
  readonly name: string
  readonly size: number
  readonly sha256: Buffer
}

export interface Finish {
  readonly options: WriterOptions
  readonly chunkUnit: ChunkUnit
  readonly context: ArtifactContext
  readonly packer: Packer
  readonly artifacts: readonly PendingArtifact[]
  readonly fingerprint: Fingerprint
  readonly totals: WriterTotals
  readonly draw: Draw
  storeKeys(): Promise<Stored>
  put(name: string, bytes: Buffer): Promise<Stored>
}

/** The end of a backup: artifact pages, index pages, the last pack, `contents`, `index`, the draft of the known list, the facts. */
export async function finishBackup(finish: Finish): Promise<Facts> {
  const { context, packer } = finish
  // every page of every body has its place, so that rows can name them
  await context.pipeline.placed()
  const artifactPages = await submitArtifacts(finish)
  const used = usedBlocks(context.places, context.references)
  const chunkPages = await submitChunkPages(context, used)
  context.treePages.flush()
  await context.pipeline.placed()
  await packer.finish()

  const { attempt } = finish.options
  // in this order: packs have their numbers by what names them first
  const sealed = describeContents(finish, artifactPages)
  const indexed = await describeIndex(finish, chunkPages)
  const [contents, index, keys] = await allEnded([
    finish.put(contentsName(attempt), sealed),
    finish.put(indexName(attempt), indexed),
    finish.storeKeys(),
  ])
  // what it takes to write the list, seconds of a long one, lies where packs and blocks were
  packer.release()
  context.pipeline.release()
  await writeDraft(finish, used)
  return facts(finish, [keys, ...packsOf(context), contents, index], keys.name)
}

async function submitArtifacts({ artifacts, context }: Finish): Promise<Array<{ ref: number; first: string }>> {
  const filler = new PageFiller(PAGE.artifacts, 'page', context.pipeline)
  const firsts: string[] = []
  const byName = artifacts.map((artifact) => ({ artifact, key: Buffer.from(artifact.meta.name) }))
  byName.sort((a, b) => a.key.compare(b.key))
  for (const { artifact } of byName) {
    const json = Buffer.from(JSON.stringify(artifactRow(artifact, context)))
    const row = new ByteWriter(json.length + 8).sized(json)
    if (row.length > LIMITS.artifactRow - 1) {
      throw new HoldfastError('too_large', `artifact ${JSON.stringify(artifact.meta.name)} has too many facts or pages`)
    }
    if (filler.makeRoom(row.length)) firsts.push(artifact.meta.name)
    filler.add(row)
    // pages lie in the memory of blocks, of which there are only so many
    if (context.pipeline.isBusy) await context.pipeline.room()
  }
  filler.flush()
  return filler.pages.map((ref, n) => ({ ref, first: firsts[n] as string }))
}

function artifactRow({ kind, meta, totals, digest, body }: PendingArtifact, context: ArtifactContext): ArtifactRow {
  return {
    kind,
    name: meta.name,
    part: 'part' in meta ? meta.part : undefined,
    chunking: chunkingRow(meta.chunking),
    facts: { ...meta.facts },
    bytes: totals.bytes,
    entries: 'entries' in totals ? totals.entries : undefined,
    digest: digest.toString('hex'),
    body: 'inline' in body ? { inline: body.inline.toString('base64') } : { pages: places(context, body.pages) },
  }
}

const chunkingRow = (chunking: Chunking): ArtifactRow['chunking'] =>
  chunking.kind === 'fixed' ? { ...chunking } : { kind: chunking.kind, average_bytes: chunking.averageBytes }

const places = (context: ArtifactContext, pages: readonly number[]): Array<[number, number]> =>
  pages.map((ref) => {
    const { pack, block } = context.references.page(ref)
    return [pack, block]
  })

async function submitChunkPages(context: ArtifactContext, used: Uint32Array): Promise<number[]> {
  const filler = new PageFiller(PAGE.chunks, 'index', context.pipeline)
  const record = new ByteWriter(32)
  let before: RunState = START
  for (const ref of used) {
    for (const { first, count } of context.places.usedRuns(ref)) {
      if (filler.makeRoom(32)) before = START
      record.clear()
      before = writeRun(record, context.references.locate(ref, first, count), before)
      filler.add(record)
      if (context.pipeline.isBusy) await context.pipeline.room()
    }
  }
  filler.flush()
  return filler.pages
}

function describeContents(
  { options, context, artifacts, fingerprint }: Finish,
  pages: Array<{ ref: number; first: string }>,
): Buffer {
  const { backup, attempt, engine, type } = options
  const contents: Contents = {
    format: 1,
    host: backup.host,
    source: backup.source,
    id: backup.id,
    engine,
    type,
    gear_key: options.gearKey.reveal().toString('hex'),
    fingerprint,
    origins: origins(context),
    artifacts: { count: artifacts.length, pages: pages.map(({ ref, first }) => ({ ...context.references.page(ref), first })) },
  }
  return sealContents(contents, backup, attempt, options.dataKey.reveal())
}

const origins = (context: ArtifactContext) =>
  context.references.leansOn.map(({ id, manifest_sha256 }) => ({ id, manifest_sha256 }))

async function describeIndex({ options, chunkUnit, context }: Finish, chunkPages: readonly number[]): Promise<Buffer> {
  const { backup } = options
  const index: IndexHead = {
    format: 1,
    host: backup.host,
    source: backup.source,
    id: backup.id,
    gear_key: options.gearKey.reveal().toString('hex'),
    ...(chunkUnit === null ? {} : { chunk_unit: chunkUnit }),
    keys: usedAttempts(options, context).map(({ attempt, dataKey }) => ({
      attempt,
      key: indexKeyOf(dataKey.reveal(), backup, attempt).toString('hex'),
    })),
    origins: origins(context),
    chunks: places(context, chunkPages),
    trees: places(context, context.treePages.pages),
  }
  return await sealIndex(index, [...options.recipients, options.agentRecipient])
}

/** The attempts whose packs are used, and this one, whose key opens the contents. */
function usedAttempts(options: WriterOptions, context: ArtifactContext) {
  const used = new Set(context.references.packs.map((pack) => pack.attempt))
  return [...options.earlier.filter(({ attempt }) => used.has(attempt)), { attempt: options.attempt, dataKey: options.dataKey }]
}

function packsOf(context: ArtifactContext): Stored[] {
  return context.references.packs.map((pack) => {
    if (!pack.stored) throw new HoldfastError('internal', 'a pack that is referenced was never confirmed')
    attemptOfPack(pack.stored.name)
    return pack.stored
  })
}

/** In turns with what else goes on in a job: it hears of its lease, and that it is cancelled. */
async function writeDraft({ options, chunkUnit, context }: Finish, used: Uint32Array): Promise<void> {
  const known = options.known && knownFile(options.known)
  const steps = context.draft.steps(
    {
      refs: used,
      limit: context.places.count,
      isUsed: (ref, index) => context.places.isUsed(ref, index),
      row: (ref) => ({ ...context.references.locate(ref, 0, 0), chunks: context.places.chunksOf(ref) }),
    },
    known?.rows() ?? [],
    { gearKey: options.gearKey.reveal(), chunkUnit, origins: context.references.knownOrigins(options.backup) },
  )
  for (const _ of steps) {
    await new Promise((resolve) => setImmediate(resolve))
    // its files are closed then
    context.signal.throwIfAborted()
  }
}

function facts({ options, context, fingerprint, totals, draw }: Finish, objects: readonly Stored[], keysName: string): Facts {
  const { backup } = options
  const rows: ObjectFact[] = objects.map(({ name, size, sha256 }) => ({ name, size, sha256: sha256.toString('hex') }))
  return {
    format: 1,
    fleet_id: options.fleetId,
    host: backup.host,
    source: backup.source,
    engine: options.engine,
    id: backup.id,
    attempt: options.attempt,
    type: options.type,
    objects: rows,
    keys: usedAttempts(options, context).map(({ attempt, dataKey }) => ({
      name: keysName,
      attempt,
      check: checkValue(dataKey.reveal(), backup, attempt).toString('hex'),
    })),
    recipients: [...new Set(options.recipients)],
    leans_on: context.references.leansOn,
    // the manifest lies in the clear: exact, they would tell which of many known files or databases this is
    read_bytes: blurred(totals.readBytes, draw),
    stored_bytes: rows.reduce((sum, row) => sum + row.size, 0),
    total_count: blurred(totalCount(fingerprint), draw),
  }
}
