import { desc, eq } from 'drizzle-orm'
import { HoldfastError } from '../../shared/errors.ts'
import { randomBase32 } from '../../shared/ids.ts'
import type { Db } from './catalog.ts'
import { backups, verifications } from './schema/schema.ts'
import { storable, storableJson } from './text.ts'

export type VerificationRow = typeof verifications.$inferSelect

export interface NewVerification {
  readonly backupId: string
  readonly kind: VerificationRow['kind']
  readonly jobId: string | null
  /** Name of the agent that judged, or `control-plane`. */
  readonly by: string
  readonly startedAt: Date
  readonly finishedAt: Date
  readonly valid: boolean
  /** False for a verification that left packs out: it says nothing of the backup as a whole, but damage. */
  readonly complete?: boolean
  readonly errors: readonly unknown[]
  readonly detail: Record<string, unknown>
}

/**
 * Keeps the evidence, and what follows for the backup: a finding of damage counts whoever made it; a finding that all is well
 * counts as verified only when another than the host that made the backup judged.
 */
export async function recordVerification(db: Db, { complete = true, ...found }: NewVerification): Promise<VerificationRow> {
  return await db.transaction(async (tx) => {
    const [backup] = await tx
      .select({ host: backups.host, valid: backups.valid })
      .from(backups)
      .where(eq(backups.id, found.backupId))
      .for('update')
    if (!backup) throw new HoldfastError('not_found', `backup ${found.backupId} is not known`)
    const [row] = await tx
      .insert(verifications)
      .values({
        ...found,
        id: `v${randomBase32(15)}`,
        by: storable(found.by, 100),
        errors: storableJson([...found.errors].slice(0, 1000), 2000),
        detail: storableJson(found.detail, 64_000),
      })
      .returning()
    const independent = found.by !== backup.host
    const patch = found.valid && !complete ? null : patchOf(found, independent, backup.valid)
    if (patch) await tx.update(backups).set(patch).where(eq(backups.id, found.backupId))
    if (!row) throw new HoldfastError('internal', 'the verification was not written')
    return row
  })
}

function patchOf(found: NewVerification, independent: boolean, was: boolean | null): Partial<typeof backups.$inferInsert> | null {
  if (!found.valid) return { valid: false }
  if (!independent) return null
  // a validation opens a sample only: it does not take back what a verification found
  if (found.kind === 'validate') return { validatedAt: found.finishedAt, valid: was ?? true }
  return found.kind === 'verify'
    ? { valid: true, verifiedAt: found.finishedAt, verifiedBy: found.by }
    : { testRestoredAt: found.finishedAt, testRestoredBy: found.by }
}

export async function listVerifications(db: Db, backupId: string, limit = 100): Promise<VerificationRow[]> {
  return await db
    .select()
    .from(verifications)
    .where(eq(verifications.backupId, backupId))
    .orderBy(desc(verifications.finishedAt))
    .limit(limit)
}
