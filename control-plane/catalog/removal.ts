import { and, asc, desc, eq, inArray, isNotNull, isNull, lte, notExists, sql } from 'drizzle-orm'
import { HoldfastError } from '../../shared/errors.ts'
import { type BackupRow, setLeans } from './backups.ts'
import type { Db } from './catalog.ts'
import { backupLeans, backups, copies, jobs, objects } from './schema/schema.ts'

/**
 * Decides that a backup is to go: the first step of removal, after which nothing can lean on it or read it. Locks it and looks
 * again at what leans on it, since a backup may have been dispatched after the plan was made. Throws `backup_in_use` when it
 * is running, pinned, leaned on or read by a job that is not finished, or, with
 * `keepLastGood`, when no other good backup of the source would be left. False: it had been decided before.
 */
export async function tombstone(
  db: Db,
  backupId: string,
  reason: string,
  now: Date,
  options: { keepLastGood?: boolean } = {},
): Promise<boolean> {
  return await db.transaction(async (tx) => {
    if (options.keepLastGood) await lockGood(tx, backupId)
    const [backup] = await tx.select().from(backups).where(eq(backups.id, backupId)).for('update')
    if (!backup) throw new HoldfastError('not_found', `backup ${backupId} is not known`)
    if (backup.tombstonedAt !== null) return false
    const last = options.keepLastGood && (await isLastGood(tx, backup)) ? 'it is the last good one of its source' : null
    const use = last ?? (await useOf(tx, backup))
    if (use !== null) {
      throw new HoldfastError('backup_in_use', `backup ${backupId} cannot be removed: ${use}`, {
        hint: last
          ? 'Make another good backup of the source first.'
          : 'Remove what uses it first, or wait for the job to end; "holdfast show" says of a backup what it leans on.',
      })
    }
    await tx.update(backups).set({ status: 'expired', tombstonedAt: now, removalReason: reason }).where(eq(backups.id, backupId))
    await tx.update(copies).set({ state: 'removing' }).where(eq(copies.backupId, backupId))
    await setLeans(tx, backupId, [])
    return true
  })
}

async function useOf(tx: Db, backup: Pick<BackupRow, 'id' | 'status' | 'pinnedAt'>): Promise<string | null> {
  const [leaning] = await tx
    .select({ id: backupLeans.backupId })
    .from(backupLeans)
    .where(eq(backupLeans.baseId, backup.id))
    .limit(1)
  return leaning ? `backup ${leaning.id} leans on it` : workOn(tx, backup)
}

async function workOn(tx: Db, backup: Pick<BackupRow, 'id' | 'status' | 'pinnedAt'>): Promise<string | null> {
  if (backup.status === 'running') return 'it is being made'
  if (backup.pinnedAt !== null) return 'it is pinned'
  const [reading] = await tx
    .select({ id: jobs.id })
    .from(jobs)
    .where(and(eq(jobs.backupId, backup.id), isNull(jobs.finishedAt)))
    .limit(1)
  return reading ? `job ${reading.id} works with it` : null
}

/** The good backups of its source: of two removals at once each would see the other's backup as the one that is left. */
async function lockGood(tx: Db, backupId: string): Promise<void> {
  const source = tx.select({ id: backups.sourceId }).from(backups).where(eq(backups.id, backupId))
  await tx
    .select({ id: backups.id })
    .from(backups)
    .where(and(inArray(backups.sourceId, source), eq(backups.status, 'good')))
    .orderBy(asc(backups.id))
    .for('update')
}

/** Whether no other good backup of the same source and parts would be left. One that was found damaged since is none. */
export async function isLastGood(db: Db, backup: Pick<BackupRow, 'id' | 'status' | 'sourceId' | 'parts'>): Promise<boolean> {
  if (backup.status !== 'good') return false
  const good = await db
    .select({ id: backups.id, parts: backups.parts })
    .from(backups)
    .where(and(eq(backups.sourceId, backup.sourceId), eq(backups.status, 'good'), sql`${backups.valid} is distinct from false`))
  const key = JSON.stringify([...backup.parts].sort())
  return !good.some((other) => other.id !== backup.id && JSON.stringify([...other.parts].sort()) === key)
}

/** Tombstoned at or before `before` and not wholly removed, oldest first: what is left to do. */
export async function listTombstoned(db: Db, before: Date): Promise<BackupRow[]> {
  return await db
    .select()
    .from(backups)
    .where(and(isNotNull(backups.tombstonedAt), isNull(backups.removedAt), lte(backups.tombstonedAt, before)))
    .orderBy(asc(backups.tombstonedAt), asc(backups.id))
}

/**
 * Failed backups whose objects may go: the last signed address has expired a minute ago, so nothing can be written any more, and
 * no attempt of the job lives.
 */
export async function listLeftovers(db: Db, now: Date): Promise<BackupRow[]> {
  const settled = new Date(now.getTime() - 60_000).toISOString()
  const open = db
    .select({ one: sql`1` })
    .from(objects)
    .where(and(eq(objects.backupId, backups.id), sql`${objects.addressExpiresAt} > ${settled}::timestamptz`))
  const live = db
    .select({ one: sql`1` })
    .from(jobs)
    .where(and(eq(jobs.id, backups.jobId), isNull(jobs.finishedAt)))
  return await db
    .select()
    .from(backups)
    .where(and(eq(backups.status, 'failed'), isNull(backups.removedAt), notExists(open), notExists(live)))
    .orderBy(asc(backups.createdAt))
}

/**
 * Failed backups whose commit had begun and whose manifest may still lie in a target: the fleet signed it, so whoever has the store
 * alone would believe it.
 */
export async function listToWithdraw(db: Db): Promise<Array<Pick<BackupRow, 'id' | 'host' | 'source'>>> {
  return await db
    .select({ id: backups.id, host: backups.host, source: backups.source })
    .from(backups)
    .where(and(eq(backups.status, 'failed'), isNotNull(backups.manifestSha256), isNull(backups.withdrawnAt)))
    .orderBy(asc(backups.createdAt))
    .limit(100)
}

export async function recordWithdrawn(db: Db, backupId: string, now: Date): Promise<void> {
  await db.update(backups).set({ withdrawnAt: now }).where(eq(backups.id, backupId))
}

/** A manifest came into the target after the backup had failed: it is to be taken out once more. */
export async function withdrawAgain(db: Db, backupId: string): Promise<void> {
  await db
    .update(backups)
    .set({ withdrawnAt: null })
    .where(and(eq(backups.id, backupId), eq(backups.status, 'failed')))
}

/** Targets on which the backup has, had, or may have objects. */
export async function targetsOf(db: Db, backupId: string): Promise<string[]> {
  const rows = await db
    .select({ target: copies.target })
    .from(copies)
    .where(eq(copies.backupId, backupId))
    .orderBy(asc(copies.target))
  return rows.map((row) => row.target)
}

export async function recordKeysDestroyed(db: Db, backupId: string, now: Date): Promise<void> {
  await db
    .update(backups)
    .set({ keysDestroyedAt: now })
    .where(and(eq(backups.id, backupId), isNull(backups.keysDestroyedAt)))
}

/** Every object is gone from every target. The row with its manifest's hash stays as evidence. */
export async function recordRemoved(db: Db, backupId: string, now: Date): Promise<void> {
  await db.transaction(async (tx) => {
    await tx
      .update(backups)
      .set({ removedAt: now, manifest: null })
      .where(and(eq(backups.id, backupId), inArray(backups.status, ['expired', 'failed'])))
    await tx.update(copies).set({ state: 'removed' }).where(eq(copies.backupId, backupId))
    await tx.delete(objects).where(eq(objects.backupId, backupId))
  })
}

/**
 * Expired as a backup, kept as a base: it lets go of what it leans on, and cannot be restored any more. Throws `backup_in_use`
 * when it is running, pinned or read by a job. Again: nothing.
 */
export async function retire(db: Db, backupId: string, now: Date): Promise<boolean> {
  return await db.transaction(async (tx) => {
    const [backup] = await tx.select().from(backups).where(eq(backups.id, backupId)).for('update')
    if (!backup) throw new HoldfastError('not_found', `backup ${backupId} is not known`)
    if (backup.retiredAt !== null || backup.tombstonedAt !== null) return false
    const use = await workOn(tx, backup)
    if (use !== null) throw new HoldfastError('backup_in_use', `backup ${backupId} cannot expire: ${use}`)
    await tx.update(backups).set({ status: 'expired', retiredAt: now }).where(eq(backups.id, backupId))
    await setLeans(tx, backupId, [])
    return true
  })
}

/** Ids of the backups that lean on this one, newest first. */
export async function leaningOn(db: Db, backupId: string): Promise<string[]> {
  const rows = await db
    .select({ id: backupLeans.backupId })
    .from(backupLeans)
    .where(eq(backupLeans.baseId, backupId))
    .orderBy(desc(backupLeans.backupId))
  return rows.map((row) => row.id)
}
