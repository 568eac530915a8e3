import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { asHoldfastError, HoldfastError } from '../../shared/errors.ts'
import { type BackupRef, type BackupWork, BackupKind as WireKind } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import { openKnown } from '../../shared/repository/known.ts'
import { rebuildKnown } from '../../shared/repository/known-rebuild.ts'
import type { BackupWriter, KnownChunks, ObjectSink, StoredPack, WriterTotals } from '../../shared/repository/repository.ts'
import { openWriter } from '../../shared/repository/writer.ts'
import { type BackupDetail, totalCount } from '../../shared/results.ts'
import { Secret } from '../../shared/secret.ts'
import type { BackupKind, BackupPlan } from '../engines/engine.ts'
import { engineFor } from '../engines/registry.ts'
import { askedChunking } from './asked-chunking.ts'
import type { JobContext } from './context.ts'
import { toldReason } from './full-reason.ts'
import { requirePreflight } from './preflight.ts'
import { rememberKnown } from './remember-known.ts'
import { storedPacks } from './stored-packs.ts'

const KINDS: Readonly<Record<number, BackupKind>> = {
  [WireKind.FULL]: 'full',
  [WireKind.INCREMENTAL]: 'incremental',
  [WireKind.DIFFERENTIAL]: 'differential',
}

/**
 * Reads the source, stores what is new and offers the facts for commit. A dry run does the same reading and counting and stores nothing.
 * The answer says what was really made: without a usable base it is a full, with the reason.
 */
export async function runBackup(job: JobContext, work: BackupWork): Promise<BackupDetail> {
  const backup = requireRef(work.backup)
  const source = job.source(backup.source)
  const engine = engineFor(source.engine)
  const asked = KINDS[work.kind]
  if (!asked || !job.start.keys) throw new HoldfastError('invalid_argument', 'the command names no kind of backup')

  const knownFolder = path.join(job.start.folders.known, backup.source)
  await mkdir(knownFolder, { recursive: true, mode: 0o700 })
  const base = await openBase(job, work, knownFolder)
  const plan: BackupPlan<unknown> = {
    action: 'backup',
    config: source.config,
    type: base.known ? asked : 'full',
    parts: work.parts,
  }
  try {
    await requirePreflight(job, source.engine, plan)
    const sink = work.dryRun ? nowhere : job.objects
    const scratch = await ownScratch(job, 'writer')
    const writer = await openBackupWriter(job, work, { sink, known: base.known, type: plan.type, engine: source.engine, scratch })
    try {
      return await write(job, work, {
        writer,
        plan,
        knownFolder,
        scratch,
        reason: base.reason,
        run: () => engine.backup(plan, writer, job.run),
      })
    } finally {
      await writer.close()
    }
  } finally {
    await base.known?.close()
  }
}

interface WriteOptions {
  readonly writer: BackupWriter
  readonly plan: BackupPlan<unknown>
  readonly knownFolder: string
  readonly scratch: string
  readonly reason: string | undefined
  run(): ReturnType<ReturnType<typeof engineFor>['backup']>
}

async function write(job: JobContext, work: BackupWork, options: WriteOptions): Promise<BackupDetail> {
  job.report({ phase: 'read' })
  const fingerprint = await options.run()
  job.report({ phase: 'upload' })
  const facts = await options.writer.finish(fingerprint)
  const answer = { ...detail(work, options, facts.objects.length), total_count: totalCount(fingerprint) }
  if (!work.dryRun) {
    job.report({ phase: 'commit' })
    job.run.fenced()
    const committed = await job.parent.commitBackup({ facts, detail: answer })
    await rememberKnown(job, options, { id: facts.id, manifestSha256: Buffer.from(committed.manifestSha256) })
  }
  return answer
}

function detail(work: BackupWork, options: WriteOptions, objects: number): BackupDetail {
  const totals = options.writer.totals
  return {
    dry_run: work.dryRun,
    type: options.plan.type,
    ...(options.reason ? { reason: options.reason } : {}),
    read_bytes: totals.readBytes,
    stored_bytes: totals.storedBytes,
    skipped_bytes: totals.skippedBytes,
    resent_bytes: totals.resentBytes,
    chunks: totals.chunks,
    chunks_skipped: totals.chunksSkipped,
    objects,
  }
}

async function openBackupWriter(
  job: JobContext,
  work: BackupWork,
  options: { sink: ObjectSink; known: KnownChunks | null; type: BackupKind; engine: string; scratch: string },
): Promise<BackupWriter> {
  const backup = requireRef(work.backup)
  const keys = job.start.keys
  if (!keys) throw new HoldfastError('key_missing', 'the job came without its data key')
  const dataKey = new Secret(Buffer.from(keys.dataKey))
  return openWriter({
    fleetId: job.start.agent.fleetId,
    backup,
    engine: options.engine,
    type: options.type,
    attempt: job.command.attempt,
    dataKey,
    earlier: job.start.earlier.map((entry) => ({
      attempt: entry.attempt,
      dataKey: new Secret(Buffer.from(entry.dataKey)),
      packs: storedPacks(job.start.packsFile, entry.attempt),
    })),
    recipients: work.recipients,
    agentRecipient: job.start.agent.ageRecipient,
    known: options.known,
    gearKey: options.known?.gearKey ?? new Secret(Buffer.from(keys.gearKey)),
    sourceBytes: () => Math.max(job.totals().totalBytes, Number(work.expectedBytes)),
    ...askedChunking(work),
    damagedPacks: work.damagedPacks,
    resend: { backupIds: work.resendBackupIds, permille: work.resendPermille },
    objects: options.sink,
    scratch: options.scratch,
    signal: job.signal,
    onProgress: (totals) => job.report(progressOf(totals)),
    onPackStored: async (pack: StoredPack) => {
      if (!work.dryRun) await job.parent.packStored(pack)
    },
  })
}

/** The list of chunks that count as stored: this agent's own file, else rebuilt from the base's `index`, else a full. */
async function openBase(
  job: JobContext,
  work: BackupWork,
  folder: string,
): Promise<{ known: KnownChunks | null; reason: string | undefined }> {
  if (!work.base) return { known: null, reason: toldReason(job, work) }
  const base = { id: work.base.id, manifestSha256: Buffer.from(work.base.manifestSha256) }
  const kept = await openKnown(folder, base)
  if (kept) return { known: kept, reason: undefined }
  try {
    const known = await rebuildKnown({
      folder,
      scratch: await ownScratch(job, 'rebuild'),
      base: { ...work.base, manifestSha256: base.manifestSha256 },
      objects: job.objects,
      agentIdentity: new Secret(job.start.agent.ageIdentity),
      signal: job.signal,
    })
    return { known, reason: undefined }
  } catch (error) {
    job.signal.throwIfAborted()
    const failure = asHoldfastError(error)
    if (failure.retry) throw failure
    const reason = `a full was made: the list of chunks of ${base.id} could not be rebuilt (${failure.code}: ${failure.message})`
    job.finding({
      code: 'base_unusable',
      severity: 'warning',
      message: reason,
      hint: 'Verify that backup; the next incremental leans on this full.',
    })
    return { known: null, reason }
  }
}

/** An empty folder beside the engine's. */
async function ownScratch(job: JobContext, name: string): Promise<string> {
  const folder = path.join(job.start.folders.scratch, name)
  await mkdir(folder, { mode: 0o700 })
  return folder
}

/** A dry run's store: everything arrives and nothing is kept. */
const nowhere: ObjectSink = { put: async () => undefined }

const progressOf = (totals: WriterTotals) => ({
  readBytes: totals.readBytes,
  storedBytes: totals.storedBytes,
  skippedBytes: totals.skippedBytes,
  chunks: totals.chunks,
  chunksSkipped: totals.chunksSkipped,
})

export function requireRef(ref: BackupRef | undefined): BackupRef {
  if (ref) return ref
  throw new HoldfastError('invalid_argument', 'the command names no backup')
}
