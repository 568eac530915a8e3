import { jobKeyFingerprint } from '../../shared/age/job-key.ts'
import type { BackupView } from '../api/schemas/backups.ts'
import type { Page } from '../api/schemas/common.ts'
import type { JobView, ProgressView } from '../api/schemas/jobs.ts'
import type { BackupView as BackupRow } from '../catalog/backups.ts'
import type { JobView as JobRow } from '../catalog/jobs.ts'
import { isWithheld } from '../domain/recipients.ts'

/** Rows of the catalog as the API shows them. */

/** `fleet`: the fleet's own recipient. */
export function viewBackup(row: BackupRow, fleet: string): BackupView {
  return {
    id: row.id,
    source: `${row.host}/${row.source}`,
    engine: row.engine,
    type: row.type,
    status: row.status,
    created_at: row.createdAt.toISOString(),
    finished_at: time(row.finishedAt),
    description: row.description,
    size_bytes: row.sizeBytes,
    stored_bytes: row.storedBytes,
    total_count: row.totalCount,
    leans_on: row.leansOn,
    valid: row.valid,
    validated_at: time(row.validatedAt),
    verified_at: time(row.verifiedAt),
    verified_by: row.verifiedBy,
    test_restored_at: time(row.testRestoredAt),
    test_restored_by: row.testRestoredBy,
    pinned_at: time(row.pinnedAt),
    needs_unlock: isWithheld(row.recipients, fleet),
    parts: row.parts,
    target: row.target,
    job_id: row.jobId,
    copies: row.copies.map((copy) => ({
      target: copy.target,
      state: copy.state,
      good_at: time(copy.goodAt),
      checked_at: time(copy.checkedAt),
    })),
  }
}

export function viewJob(row: JobRow, now: Date): JobView {
  return {
    id: row.id,
    kind: row.kind,
    status: row.state,
    source: row.source,
    agent: row.agent,
    backup_id: row.backupId,
    target: row.writesPlace,
    attempt: row.attempt,
    progress: row.progress === null ? null : viewProgress(row.progress, row.startedAt, row.finishedAt ?? now),
    error: row.errorCode === null ? null : { code: row.errorCode, message: row.errorMessage ?? '', hint: row.errorHint },
    detail: row.detail,
    requested_by: row.requestedBy,
    policy: row.policy,
    created_at: row.createdAt.toISOString(),
    started_at: time(row.startedAt),
    finished_at: time(row.finishedAt),
    cancel_requested_at: time(row.cancelRequestedAt),
    unlock: viewUnlock(row),
  }
}

export function viewUnlock({ id, backupId, unlock }: JobRow): JobView['unlock'] {
  if (unlock === null) return null
  const { recipient, askedAt, expiresAt } = unlock
  return {
    recipient,
    fingerprint: jobKeyFingerprint({ jobId: id, backupId: backupId ?? '', recipient }),
    asked_at: askedAt.toISOString(),
    expires_at: expiresAt.toISOString(),
    unlocked_at: time(unlock.unlockedAt),
    unlocked_by: unlock.unlockedBy,
  }
}

/** Rate and time left are over the whole attempt: steady to look at, and right on average. */
export function viewProgress(progress: Record<string, unknown>, startedAt: Date | null, now: Date): ProgressView {
  const figure = (name: string): number => (typeof progress[name] === 'number' ? progress[name] : 0)
  const done = Math.max(figure('read_bytes'), figure('written_bytes'))
  const seconds = startedAt === null ? 0 : (now.getTime() - startedAt.getTime()) / 1000
  const rate = seconds > 0 ? done / seconds : null
  const total = figure('total_bytes') || null
  return {
    phase: typeof progress.phase === 'string' ? progress.phase : '',
    read_bytes: figure('read_bytes'),
    stored_bytes: figure('stored_bytes'),
    skipped_bytes: figure('skipped_bytes'),
    written_bytes: figure('written_bytes'),
    total_bytes: total,
    objects_done: figure('objects_done'),
    objects_total: figure('objects_total') || null,
    chunks: figure('chunks'),
    chunks_skipped: figure('chunks_skipped'),
    bytes_per_second: rate,
    seconds_left: total !== null && rate !== null && rate > 0 ? Math.max(0, (total - done) / rate) : null,
  }
}

const time = (value: Date | null): string | null => value?.toISOString() ?? null

export const viewPage = <Row, View>(page: Page<Row>, view: (row: Row) => View): Page<View> => ({
  items: page.items.map(view),
  next_cursor: page.next_cursor,
})
