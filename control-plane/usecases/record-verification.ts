import type { TestRestoreDetail, VerifyDetail } from '../../shared/results.ts'
import { type BackupRow, closure } from '../catalog/backups.ts'
import type { Db } from '../catalog/catalog.ts'
import { getJob, type JobRow } from '../catalog/jobs.ts'
import { markDamaged } from '../catalog/ledger.ts'
import { recordVerification as store } from '../catalog/verifications.ts'
import type { ControlPlane } from './control-plane.ts'
import type { Validation } from './validate-backup.ts'

/**
 * Keeps the evidence of a verification or test restore that an agent made; damaged objects are sent again by the next incremental. In the
 * transaction that ends the job.
 */
export async function recordVerification(
  tx: Db,
  job: JobRow,
  detail: Record<string, unknown> | undefined,
  now: Date,
): Promise<void> {
  if ((job.kind !== 'verify' && job.kind !== 'test-restore') || job.backupId === null || !detail) return
  const found = detail as unknown as VerifyDetail | TestRestoreDetail
  const errors = 'errors' in found ? found.errors : found.findings.filter((finding) => finding.severity === 'error')
  await store(tx, {
    backupId: job.backupId,
    kind: job.kind,
    jobId: job.id,
    by: (await getJob(tx, job.id)).agent,
    startedAt: job.startedAt ?? job.createdAt,
    finishedAt: now,
    // an agent that calls well what it names errors of is not believed
    valid: found.valid && errors.length === 0,
    errors,
    detail,
  })
  if ('errors' in found) await recordDamage(tx, job.backupId, errorKeys(found.errors), now)
}

const errorKeys = (errors: ReadonlyArray<{ object?: string | undefined }>): string[] => errors.map(({ object }) => object ?? '')

/**
 * Keys are `host/source/id/name`; the agent's word is taken for damage, never for health, and only of what it was told to read: else one
 * stolen agent could call every host's backups damaged.
 */
async function recordDamage(tx: Db, backupId: string, keys: readonly string[], now: Date): Promise<void> {
  const read = new Set([backupId, ...(await closure(tx, backupId)).map((ref) => ref.id)])
  const byBackup = new Map<string, string[]>()
  for (const key of keys) {
    const [, , id, ...name] = key.split('/')
    if (id && read.has(id) && name.length > 0) byBackup.set(id, [...(byBackup.get(id) ?? []), name.join('/')])
  }
  for (const [id, names] of byBackup) await markDamaged(tx, id, names, now)
}

/** Keeps what a validation by this control plane found. */
export async function recordValidation(
  cp: ControlPlane,
  backup: BackupRow,
  validation: Validation,
  of: { startedAt: Date; jobId: string | null },
): Promise<void> {
  const now = cp.clock.now()
  await cp.catalog.transaction(async (tx) => {
    await store(tx, {
      backupId: backup.id,
      kind: 'validate',
      jobId: of.jobId,
      by: 'control-plane',
      startedAt: of.startedAt,
      finishedAt: now,
      valid: validation.valid,
      errors: validation.details,
      detail: { errors: validation.errors, not_checked: validation.not_checked },
    })
    await recordDamage(tx, backup.id, errorKeys(validation.details), now)
  })
}
