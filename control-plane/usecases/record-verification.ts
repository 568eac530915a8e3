import type { TestRestoreDetail, VerifyDetail } from '../../shared/results.ts'
import { type BackupRow, closure, getBackup } from '../catalog/backups.ts'
import type { Db } from '../catalog/catalog.ts'
import { getJob, type JobRow } from '../catalog/jobs.ts'
import { markDamaged } from '../catalog/ledger.ts'
import { recordVerification as store } from '../catalog/verifications.ts'
import { rememberVerified } from '../catalog/verified-packs.ts'
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
  const verify = job.kind === 'verify' ? (found as VerifyDetail) : null
  const errors = 'errors' in found ? found.errors : found.findings.filter((finding) => finding.severity === 'error')
  // a plan has read nothing; damage that it met counts
  if (verify?.plan_only && errors.length === 0) return
  const by = (await getJob(tx, job.id)).agent
  await store(tx, {
    backupId: job.backupId,
    kind: job.kind,
    jobId: job.id,
    by,
    startedAt: job.startedAt ?? job.createdAt,
    finishedAt: now,
    // an agent that calls well what it names errors of is not believed
    valid: found.valid && errors.length === 0,
    complete: !verify?.packs || verify.packs.chosen === verify.packs.needed,
    errors,
    detail: withoutGood(detail),
  })
  if (verify) await recordGood(tx, job.backupId, verify.good, { by, at: job.startedAt ?? now })
  if ('errors' in found) await recordDamage(tx, job.backupId, errorKeys(found.errors), now)
}

/** Without what is kept of each pack: that is in the ledger, and tells a person nothing. */
export function withoutGood(detail: Record<string, unknown>): Record<string, unknown> {
  const { good: _good, ...rest } = detail
  return rest
}

/** As with damage, only of what the agent was told to read. Damage comes after: what is called both is damaged. */
async function recordGood(tx: Db, backupId: string, good: VerifyDetail['good'], found: { by: string; at: Date }): Promise<void> {
  if (good.length === 0) return
  const refs = [await getBackup(tx, backupId), ...(await closure(tx, backupId))]
  for (const { backup_id: id, objects } of good) {
    const ref = refs.find((candidate) => candidate.id === id)
    if (ref) await rememberVerified(tx, ref, Buffer.from(objects, 'base64'), found)
  }
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
