import { and, asc, eq, inArray, isNotNull, like, sql } from 'drizzle-orm'
import { HoldfastError } from '../../shared/errors.ts'
import { objectKey } from '../../shared/manifest/layout.ts'
import type { Db } from './catalog.ts'
import { backups, objects } from './schema/schema.ts'

export type ObjectRow = typeof objects.$inferSelect

/** Rows of one statement: PostgreSQL takes at most 65,535 parameters. */
const BATCH = 5000

export interface ObjectToWrite {
  readonly name: string
  readonly size: number
  readonly sha256: Buffer
}

/**
 * The ledger's line for every address that is given out, before it is. A name asked for again with the same size and hash gets
 * a new address (a lost reply, a resumed attempt); with others it throws `object_conflict`. The caller has checked, in the same
 * transaction, that the attempt is the current one.
 */
export async function recordAddress(
  tx: Db,
  backup: { id: string; attempt: number },
  wanted: readonly ObjectToWrite[],
  expiresAt: Date,
): Promise<void> {
  const rows = wanted.map((object) => ({
    backupId: backup.id,
    attempt: backup.attempt,
    name: object.name,
    size: object.size,
    sha256: object.sha256,
    addressExpiresAt: expiresAt,
  }))
  for (let from = 0; from < rows.length; from += BATCH) {
    const part = rows.slice(from, from + BATCH)
    const written = await tx
      .insert(objects)
      .values(part)
      .onConflictDoUpdate({
        target: [objects.backupId, objects.name],
        set: { addressExpiresAt: sql`greatest(${objects.addressExpiresAt}, excluded.address_expires_at)` },
        setWhere: sql`${objects.size} = excluded.size and ${objects.sha256} = excluded.sha256`,
      })
      .returning({ name: objects.name })
    if (written.length === part.length) continue
    const known = new Set(written.map((row) => row.name))
    const name = part.find((row) => !known.has(row.name))?.name
    throw new HoldfastError('object_conflict', `object ${name} of backup ${backup.id} was asked for with another size or hash`, {
      hint: 'Give every object a new random name; a name stands for one content.',
    })
  }
}

/** Lines of these names alone: a backup may have tens of thousands. */
export async function ledgerLines(db: Db, backupId: string, names: readonly string[]): Promise<ObjectRow[]> {
  if (names.length === 0) return []
  return await db
    .select()
    .from(objects)
    .where(and(eq(objects.backupId, backupId), inArray(objects.name, [...names])))
}

/** Objects of all of these backups together. */
export async function objectCount(db: Db, backupIds: readonly string[]): Promise<number> {
  return await db.$count(objects, inArray(objects.backupId, [...backupIds]))
}

/** The store said that they are there, whole. Throws `object_missing` for one that the ledger does not have. */
export async function confirmObjects(tx: Db, backupId: string, names: readonly string[], now: Date): Promise<void> {
  const missing = new Set(names)
  for (let from = 0; from < names.length; from += BATCH) {
    const rows = await tx
      .update(objects)
      .set({ confirmedAt: sql`coalesce(${objects.confirmedAt}, ${now.toISOString()}::timestamptz)` })
      .where(and(eq(objects.backupId, backupId), inArray(objects.name, names.slice(from, from + BATCH))))
      .returning({ name: objects.name })
    for (const row of rows) missing.delete(row.name)
  }
  for (const name of missing) {
    throw new HoldfastError('object_missing', `object ${name} of backup ${backupId} was never asked for`)
  }
}

export async function objectsOf(db: Db, backupId: string): Promise<ObjectRow[]> {
  return await db.select().from(objects).where(eq(objects.backupId, backupId)).orderBy(asc(objects.name))
}

/** A verification found them damaged or missing: the next incremental sends their chunks again. */
export async function markDamaged(tx: Db, backupId: string, names: readonly string[], now: Date): Promise<void> {
  if (names.length === 0) return
  await tx
    .update(objects)
    .set({ damagedAt: now, verifiedAt: null, verifiedBy: null })
    .where(and(eq(objects.backupId, backupId), inArray(objects.name, [...names])))
}

/** Keys of damaged packs, relative to the target. */
export async function damagedPacks(db: Db, backupIds: readonly string[]): Promise<string[]> {
  if (backupIds.length === 0) return []
  const rows = await db
    .select({ id: backups.id, host: backups.host, source: backups.source, name: objects.name })
    .from(objects)
    .innerJoin(backups, eq(backups.id, objects.backupId))
    .where(and(inArray(objects.backupId, [...backupIds]), isNotNull(objects.damagedAt), like(objects.name, 'packs/%')))
    .orderBy(asc(backups.id), asc(objects.name))
  return rows.map((row) => objectKey(row, row.name))
}

/** Those of the backups in which contents, index or keys are damaged, so that nothing can be looked up in them. */
export async function unreadableAmong(db: Db, backupIds: readonly string[]): Promise<Set<string>> {
  if (backupIds.length === 0) return new Set()
  const rows = await db
    .selectDistinct({ id: objects.backupId })
    .from(objects)
    .where(and(inArray(objects.backupId, [...backupIds]), isNotNull(objects.damagedAt), sql`${objects.name} not like 'packs/%'`))
  return new Set(rows.map((row) => row.id))
}
