import { createHash } from 'node:crypto'
import { and, eq } from 'drizzle-orm'
import { HoldfastError } from '../../shared/errors.ts'
import type { BackupType } from '../domain/job-spec.ts'
import { setLeans } from './backups.ts'
import type { Db } from './catalog.ts'
import { applyEvent, type Caller } from './job-changes.ts'
import { backupLeans, backups, sources } from './schema/schema.ts'

/** What the control plane decides of a manifest: never the host that made the backup. */
export interface CommitFacts {
  readonly committedAt: Date
  readonly sequence: number
  /** SHA-256 of the manifest with the sequence before this one. */
  readonly predecessor: Buffer | null
}

/** Out of the agent's facts, checked by the caller. */
export interface AgentFacts {
  readonly type: BackupType
  readonly leansOn: readonly string[]
  readonly recipients: readonly string[]
  readonly readBytes: number
  readonly storedBytes: number
  readonly totalCount: number
}

export interface BegunCommit {
  readonly backupId: string
  readonly manifest: Buffer
  readonly manifestSha256: Buffer
  /** The commit had begun before, with this manifest; `sign` was not called. */
  readonly repeated: boolean
}

/**
 * Records `committing(hash)` with the manifest that `sign` makes, before a byte of it is written, so that after a crash the
 * same manifest is written again. Sequence and predecessor are taken under a lock on the source: no two manifests get the
 * same. Throws `attempt_fenced`, and `base_unusable` when the facts lean on something that the dispatch did not grant.
 */
export async function beginCommit(
  db: Db,
  of: { readonly by: Caller; readonly jobId: string; readonly attempt: number },
  facts: AgentFacts,
  now: Date,
  sign: (commit: CommitFacts) => Buffer | Promise<Buffer>,
): Promise<BegunCommit> {
  return await db.transaction(async (tx) => {
    const job = await applyEvent(tx, of.by, of.jobId, { type: 'commit', attempt: of.attempt }, now)
    const [backup] = await tx
      .select()
      .from(backups)
      .where(eq(backups.id, job.backupId ?? ''))
      .for('update')
    if (!backup) throw new HoldfastError('job_state', `job ${of.jobId} makes no backup`)
    if (backup.manifest && backup.manifestSha256) {
      return { backupId: backup.id, manifest: backup.manifest, manifestSha256: backup.manifestSha256, repeated: true }
    }
    await requireGranted(tx, backup.id, facts.leansOn)
    const commit = await nextOfSource(tx, backup.sourceId, now)
    const manifest = await sign(commit)
    const manifestSha256 = createHash('sha256').update(manifest).digest()
    await tx.update(sources).set({ sequence: commit.sequence }).where(eq(sources.id, backup.sourceId))
    await tx
      .update(backups)
      .set({
        manifest,
        manifestSha256,
        sequence: commit.sequence,
        attempt: of.attempt,
        type: facts.type,
        recipients: [...facts.recipients],
        sizeBytes: facts.readBytes,
        storedBytes: facts.storedBytes,
        totalCount: facts.totalCount,
      })
      .where(eq(backups.id, backup.id))
    await setLeans(tx, backup.id, facts.leansOn)
    return { backupId: backup.id, manifest, manifestSha256, repeated: false }
  })
}

async function requireGranted(tx: Db, backupId: string, leansOn: readonly string[]): Promise<void> {
  const rows = await tx.select({ baseId: backupLeans.baseId }).from(backupLeans).where(eq(backupLeans.backupId, backupId))
  const granted = new Set(rows.map((row) => row.baseId))
  const other = leansOn.find((id) => !granted.has(id))
  if (other === undefined) return
  throw new HoldfastError('base_unusable', `backup ${backupId} leans on ${other}, which its command did not name`, {
    hint: 'Run the backup again; it is told afresh what it may lean on.',
  })
}

async function nextOfSource(tx: Db, sourceId: string, now: Date): Promise<CommitFacts> {
  const [source] = await tx.select({ sequence: sources.sequence }).from(sources).where(eq(sources.id, sourceId)).for('update')
  if (!source) throw new HoldfastError('not_found', `source ${sourceId} is not known`)
  if (source.sequence === 0) return { committedAt: now, sequence: 1, predecessor: null }
  const [last] = await tx
    .select({ sha256: backups.manifestSha256 })
    .from(backups)
    .where(and(eq(backups.sourceId, sourceId), eq(backups.sequence, source.sequence)))
  if (!last?.sha256)
    throw new HoldfastError('catalog_damaged', `manifest ${source.sequence} of source ${sourceId} is not in the catalog`)
  return { committedAt: now, sequence: source.sequence + 1, predecessor: last.sha256 }
}
