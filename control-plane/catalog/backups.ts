import { and, asc, desc, eq, getTableColumns, inArray, isNull, like, or, type SQL } from 'drizzle-orm'
import { HoldfastError } from '../../shared/errors.ts'
import { newBackupId, parseSourceName } from '../../shared/ids.ts'
import type { BackupType } from '../domain/job-spec.ts'
import type { Db } from './catalog.ts'
import { afterCursor, idLike, type Page, type PageQuery, page, pageLimit } from './cursor.ts'
import { backupLeans, backups, copies } from './schema/schema.ts'
import { type SourceRow, selectedBy } from './sources.ts'
import { storable } from './text.ts'

const { manifest: _, ...columns } = getTableColumns(backups)

/** Without the manifest's bytes, which may be megabytes: `manifestOf` reads those. */
export type BackupRow = Omit<typeof backups.$inferSelect, 'manifest'>
export type BackupStatus = BackupRow['status']
export type CopyRow = typeof copies.$inferSelect

export interface BackupView extends BackupRow {
  readonly leansOn: string[]
  readonly copies: CopyRow[]
}

/** What a command needs to name a backup. */
export interface BackupRef {
  readonly id: string
  readonly host: string
  readonly source: string
  readonly manifestSha256: Buffer | null
}

export interface NewBackup {
  readonly source: SourceRow
  readonly type: BackupType
  readonly target: string
  readonly jobId: string
  readonly parts: readonly string[]
  readonly description: string | null
  readonly recipients: readonly string[]
}

/** A running backup with a copy that is being written. The id's stamp is `now`. */
export async function createBackup(tx: Db, backup: NewBackup, now: Date): Promise<BackupRow> {
  const id = newBackupId(now)
  const { source } = backup
  const [row] = await tx
    .insert(backups)
    .values({
      id,
      sourceId: source.id,
      host: source.host,
      source: source.name,
      engine: source.engine,
      type: backup.type,
      status: 'running',
      target: backup.target,
      jobId: backup.jobId,
      description: backup.description === null ? null : storable(backup.description, 1000),
      parts: [...backup.parts],
      recipients: [...backup.recipients],
      createdAt: now,
    })
    .returning(columns)
  await tx.insert(copies).values({ backupId: id, target: backup.target, state: 'writing' })
  if (!row) throw new HoldfastError('internal', `backup ${id} was not written`)
  return row
}

/** Replaces what the backup leans on. Bases were chosen, or its manifest now says it exactly. */
export async function setLeans(tx: Db, backupId: string, baseIds: readonly string[]): Promise<void> {
  await tx.delete(backupLeans).where(eq(backupLeans.backupId, backupId))
  if (baseIds.length > 0) await tx.insert(backupLeans).values(baseIds.map((baseId) => ({ backupId, baseId })))
}

/** Validated: from now on it counts. Only a committed, running one; repeating it changes nothing. */
export async function markGood(tx: Db, backupId: string, now: Date): Promise<void> {
  const [row] = await tx
    .update(backups)
    .set({ status: 'good', finishedAt: now, committedAt: now, valid: true, validatedAt: now })
    .where(and(eq(backups.id, backupId), eq(backups.status, 'running')))
    .returning({ target: backups.target, manifestSha256: backups.manifestSha256 })
  if (!row) return
  if (row.manifestSha256 === null) throw new HoldfastError('job_state', `backup ${backupId} has no manifest and cannot be good`)
  await tx
    .update(copies)
    .set({ state: 'good', goodAt: now, checkedAt: now })
    .where(and(eq(copies.backupId, backupId), eq(copies.target, row.target)))
}

/** It came to nothing: it lets go of its bases, and what it stored is left for removal. */
export async function markFailed(tx: Db, backupId: string, now: Date): Promise<void> {
  const [row] = await tx
    .update(backups)
    .set({ status: 'failed', finishedAt: now })
    .where(and(eq(backups.id, backupId), eq(backups.status, 'running')))
    .returning({ id: backups.id })
  if (row) await setLeans(tx, backupId, [])
}

export interface BackupFilter extends PageQuery {
  /** host/name */
  readonly source?: string
  readonly sourceId?: string
  readonly type?: BackupType
  readonly status?: BackupStatus
  /** Patterns of host/name; none: all. */
  readonly selectedBy?: readonly string[]
  /** Beginning or ending of the id. */
  readonly id?: string
}

/** Newest first. Removed ones are left out unless `status` asks for expired or failed ones. */
export async function listBackups(db: Db, filter: BackupFilter = {}): Promise<Page<BackupView>> {
  const limit = pageLimit(filter)
  const conditions: (SQL | undefined)[] = [
    filter.sourceId === undefined ? undefined : eq(backups.sourceId, filter.sourceId),
    filter.type === undefined ? undefined : eq(backups.type, filter.type),
    filter.status === undefined ? isNull(backups.removedAt) : eq(backups.status, filter.status),
    afterCursor(filter.cursor, backups.createdAt, backups.id),
    selectedBy(filter.selectedBy ?? [], backups.host, backups.source),
    idLike(backups.id, filter.id),
  ]
  if (filter.source !== undefined) {
    const { host, name } = parseSourceName(filter.source)
    conditions.push(eq(backups.host, host), eq(backups.source, name))
  }
  const rows = await db
    .select(columns)
    .from(backups)
    .where(and(...conditions))
    .orderBy(desc(backups.createdAt), desc(backups.id))
    .limit(limit + 1)
  const found = page(rows, limit, (row) => ({ at: row.createdAt, id: row.id }))
  return { ...found, items: await viewsOf(db, found.items) }
}

/** Every backup of a source, oldest first: what retention and the choice of a base look at. */
export async function backupsOfSource(db: Db, sourceId: string): Promise<BackupView[]> {
  const rows = await db
    .select(columns)
    .from(backups)
    .where(eq(backups.sourceId, sourceId))
    .orderBy(asc(backups.createdAt), asc(backups.id))
  return await viewsOf(db, rows)
}

export async function getBackup(db: Db, id: string): Promise<BackupView> {
  const [view] = await viewsOf(db, await db.select(columns).from(backups).where(eq(backups.id, id)))
  if (!view) throw unknown(id)
  return view
}

/**
 * By id, by a unique beginning or ending of one, or `latest:host/name` (the last good one of a source). Throws `not_found` and
 * `ambiguous`. Removed backups are found by their whole id only.
 */
export async function findBackup(db: Db, text: string): Promise<BackupView> {
  if (text.startsWith('latest:')) {
    const { items } = await listBackups(db, { source: text.slice('latest:'.length), status: 'good', limit: 1 })
    if (items[0]) return items[0]
    throw new HoldfastError('not_found', `source ${text.slice('latest:'.length)} has no good backup`)
  }
  if (!/^[0-9A-Za-z-]{1,27}$/.test(text)) throw unknown(text)
  const rows = await db
    .select(columns)
    .from(backups)
    .where(
      or(eq(backups.id, text), and(isNull(backups.removedAt), or(like(backups.id, `${text}%`), like(backups.id, `%${text}`)))),
    )
    .orderBy(desc(backups.createdAt))
    .limit(5)
  const exact = rows.find((row) => row.id === text)
  if (!exact && rows.length > 1) {
    throw new HoldfastError('ambiguous', `${text} names more than one backup: ${rows.map((row) => row.id).join(', ')}`, {
      hint: 'Give more of the id.',
    })
  }
  const [view] = await viewsOf(db, exact ? [exact] : rows)
  if (!view) throw unknown(text)
  return view
}

/** manifest.json as it was or is to be stored; null before the commit began. */
export async function manifestOf(db: Db, id: string): Promise<{ bytes: Buffer; sha256: Buffer } | null> {
  const [row] = await db
    .select({ bytes: backups.manifest, sha256: backups.manifestSha256 })
    .from(backups)
    .where(eq(backups.id, id))
  if (!row) throw unknown(id)
  return row.bytes && row.sha256 ? { bytes: row.bytes, sha256: row.sha256 } : null
}

/**
 * Everything that the backup leans on, itself left out, oldest first. Not followed any further: a manifest names every backup of
 * which a block is used, so what a base leaned on and this one does not is not needed for it.
 */
export async function closure(db: Db, backupId: string): Promise<BackupRef[]> {
  return await db
    .select({ id: backups.id, host: backups.host, source: backups.source, manifestSha256: backups.manifestSha256 })
    .from(backupLeans)
    .innerJoin(backups, eq(backups.id, backupLeans.baseId))
    .where(eq(backupLeans.backupId, backupId))
    .orderBy(asc(backups.createdAt), asc(backups.id))
}

export async function setPinned(db: Db, backupId: string, by: string | null, now: Date): Promise<void> {
  const [row] = await db
    .update(backups)
    .set({ pinnedAt: by === null ? null : now, pinnedBy: by })
    .where(and(eq(backups.id, backupId), isNull(backups.tombstonedAt)))
    .returning({ id: backups.id })
  if (!row) throw unknown(backupId)
}

async function viewsOf(db: Db, rows: BackupRow[]): Promise<BackupView[]> {
  if (rows.length === 0) return []
  const ids = rows.map((row) => row.id)
  const leans = await db.select().from(backupLeans).where(inArray(backupLeans.backupId, ids)).orderBy(asc(backupLeans.baseId))
  const held = await db.select().from(copies).where(inArray(copies.backupId, ids)).orderBy(asc(copies.target))
  const leansOf = Map.groupBy(leans, (row) => row.backupId)
  const copiesOf = Map.groupBy(held, (row) => row.backupId)
  return rows.map((row) => ({
    ...row,
    leansOn: (leansOf.get(row.id) ?? []).map((lean) => lean.baseId),
    copies: copiesOf.get(row.id) ?? [],
  }))
}

function unknown(id: string): HoldfastError {
  return new HoldfastError('not_found', `backup ${JSON.stringify(id)} is not known`, {
    hint: 'List the backups with "holdfast list"; a unique beginning or ending of an id is enough.',
  })
}

/** The newest good backup that a target holds. */
export async function newestHeld(db: Db, target: string): Promise<BackupRef | null> {
  const [row] = await db
    .select({ id: backups.id, host: backups.host, source: backups.source, manifestSha256: backups.manifestSha256 })
    .from(copies)
    .innerJoin(backups, eq(backups.id, copies.backupId))
    .where(and(eq(copies.target, target), eq(copies.state, 'good'), eq(backups.status, 'good')))
    .orderBy(desc(backups.id))
    .limit(1)
  return row ?? null
}
