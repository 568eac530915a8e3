import type { TestRestoreDetail, VerifyDetail } from '../../shared/results.ts'
import { type BackupRow, closure } from '../catalog/backups.ts'
import type { AttemptRef } from '../catalog/job-reports.ts'
import { getJob, type JobRow } from '../catalog/jobs.ts'
import { markDamaged } from '../catalog/ledger.ts'
import { recordVerification as store } from '../catalog/verifications.ts'
import type { ControlPlane } from './control-plane.ts'
import type { Validation } from './validate-backup.ts'

/** Keeps the evidence of a verification or test restore that an agent made; damaged objects are sent again by the next incremental. */
export async function recordVerification(
  cp: ControlPlane,
  job: JobRow,
  ref: AttemptRef,
  detail: Record<string, unknown> | undefined,
): Promise<void> {
  if ((job.kind !== 'verify' && job.kind !== 'test-restore') || job.backupId === null || !detail) return
  const found = detail as unknown as VerifyDetail | TestRestoreDetail
  const errors = 'errors' in found ? found.errors : found.findings.filter((finding) => finding.severity === 'error')
  await store(cp.catalog.db, {
    backupId: job.backupId,
    kind: job.kind,
    jobId: ref.jobId,
    by: (await getJob(cp.catalog.db, ref.jobId)).agent,
    startedAt: job.startedAt ?? job.createdAt,
    finishedAt: cp.clock.now(),
    valid: found.valid,
    errors,
    detail,
  })
  if ('errors' in found)
    await recordDamage(
      cp,
      job.backupId,
      found.errors.map((error) => error.object ?? ''),
    )
}

/**
 * Keys are `host/source/id/name`; the agent's word is taken for damage, never for health, and only of what it was told to read: else one
 * stolen agent could call every host's backups damaged.
 */
async function recordDamage(cp: ControlPlane, backupId: string, keys: readonly string[]): Promise<void> {
  const read = new Set([backupId, ...(await closure(cp.catalog.db, backupId)).map((ref) => ref.id)])
  const byBackup = new Map<string, string[]>()
  for (const key of keys) {
    const [, , id, ...name] = key.split('/')
    if (id && read.has(id) && name.length > 0) byBackup.set(id, [...(byBackup.get(id) ?? []), name.join('/')])
  }
  await cp.catalog.transaction(async (tx) => {
    for (const [id, names] of byBackup) await markDamaged(tx, id, names, cp.clock.now())
  })
}

/** Keeps what a validation by this control plane found. */
export async function recordValidation(
  cp: ControlPlane,
  backup: BackupRow,
  validation: Validation,
  of: { startedAt: Date; jobId: string | null },
): Promise<void> {
  await store(cp.catalog.db, {
    backupId: backup.id,
    kind: 'validate',
    jobId: of.jobId,
    by: 'control-plane',
    startedAt: of.startedAt,
    finishedAt: cp.clock.now(),
    valid: validation.valid,
    errors: validation.details,
    detail: { errors: validation.errors },
  })
  await recordDamage(
    cp,
    backup.id,
    validation.details.map((detail) => detail.object ?? ''),
  )
}
