import { sql } from 'drizzle-orm'
import { bigint, boolean, check, index, integer, jsonb, pgTable, primaryKey, text, uniqueIndex } from 'drizzle-orm/pg-core'
import { bytea, instant } from './columns.ts'
import { sources } from './protection.ts'

export const backups = pgTable(
  'backups',
  {
    /** stamp-id */
    id: text('id').primaryKey(),
    sourceId: text('source_id')
      .notNull()
      .references(() => sources.id),
    host: text('host').notNull(),
    source: text('source').notNull(),
    engine: text('engine').notNull(),
    type: text('type').$type<'full' | 'incremental' | 'differential'>().notNull(),
    status: text('status').$type<'running' | 'good' | 'failed' | 'expired'>().notNull(),
    target: text('target').notNull(),
    jobId: text('job_id'),
    description: text('description'),
    parts: jsonb('parts').$type<string[]>().notNull().default([]),
    createdAt: instant('created_at').notNull(),
    finishedAt: instant('finished_at'),
    /** Bytes read from the source, and bytes of its own objects. */
    sizeBytes: bigint('size_bytes', { mode: 'number' }),
    storedBytes: bigint('stored_bytes', { mode: 'number' }),
    totalCount: bigint('total_count', { mode: 'number' }),
    sequence: integer('sequence'),
    attempt: integer('attempt'),
    /** Set with state `committing`, before the manifest is written; the same one is written again after a crash. */
    manifestSha256: bytea('manifest_sha256'),
    manifest: bytea('manifest'),
    committedAt: instant('committed_at'),
    recipients: jsonb('recipients').$type<string[]>(),
    valid: boolean('valid'),
    validatedAt: instant('validated_at'),
    verifiedAt: instant('verified_at'),
    /** Name of the agent that judged, or `control-plane`. */
    verifiedBy: text('verified_by'),
    testRestoredAt: instant('test_restored_at'),
    testRestoredBy: text('test_restored_by'),
    pinnedAt: instant('pinned_at'),
    pinnedBy: text('pinned_by'),
    /**
     * Expired as a backup, kept as a base: it leans on nothing any more and cannot be restored, and the next incrementals
     * let go of it. Gone once nothing leans on it.
     */
    retiredAt: instant('retired_at'),
    /** It failed after its commit had begun, and its manifest and keys were taken out of the targets. */
    withdrawnAt: instant('withdrawn_at'),
    removalReason: text('removal_reason'),
    /** Removal: decided, then keys gone, then everything gone. */
    tombstonedAt: instant('tombstoned_at'),
    keysDestroyedAt: instant('keys_destroyed_at'),
    removedAt: instant('removed_at'),
  },
  (t) => [
    check('backups_status', sql`status in ('running', 'good', 'failed', 'expired')`),
    uniqueIndex('backups_sequence').on(t.sourceId, t.sequence).where(sql`sequence is not null`),
    index('backups_source').on(t.sourceId, t.createdAt),
    index('backups_created').on(t.createdAt),
    index('backups_to_withdraw')
      .on(t.createdAt)
      .where(sql`status = 'failed' and manifest_sha256 is not null and withdrawn_at is null`),
  ],
)

/** Written in the transaction that dispatches; retention locks and re-checks them. */
export const backupLeans = pgTable(
  'backup_leans',
  {
    backupId: text('backup_id')
      .notNull()
      .references(() => backups.id),
    baseId: text('base_id')
      .notNull()
      .references(() => backups.id),
  },
  (t) => [primaryKey({ columns: [t.backupId, t.baseId] }), index('backup_leans_base').on(t.baseId)],
)

/** The ledger: an object that was not asked for is never believed. */
export const objects = pgTable(
  'objects',
  {
    backupId: text('backup_id')
      .notNull()
      .references(() => backups.id),
    name: text('name').notNull(),
    attempt: integer('attempt').notNull(),
    size: bigint('size', { mode: 'number' }).notNull(),
    sha256: bytea('sha256').notNull(),
    addressExpiresAt: instant('address_expires_at').notNull(),
    confirmedAt: instant('confirmed_at'),
    damagedAt: instant('damaged_at'),
    /** When it was last read whole by a verification and was as it was stored, and by which agent. */
    verifiedAt: instant('verified_at'),
    verifiedBy: text('verified_by'),
  },
  (t) => [primaryKey({ columns: [t.backupId, t.name] })],
)

/** One row for each target that holds, or is to hold, the backup. */
export const copies = pgTable(
  'copies',
  {
    backupId: text('backup_id')
      .notNull()
      .references(() => backups.id),
    target: text('target').notNull(),
    state: text('state').$type<'writing' | 'good' | 'damaged' | 'removing' | 'removed'>().notNull(),
    goodAt: instant('good_at'),
    checkedAt: instant('checked_at'),
  },
  (t) => [primaryKey({ columns: [t.backupId, t.target] })],
)

export const verifications = pgTable('verifications', {
  id: text('id').primaryKey(),
  backupId: text('backup_id')
    .notNull()
    .references(() => backups.id),
  kind: text('kind').$type<'validate' | 'verify' | 'test-restore'>().notNull(),
  jobId: text('job_id'),
  by: text('by').notNull(),
  startedAt: instant('started_at').notNull(),
  finishedAt: instant('finished_at').notNull(),
  valid: boolean('valid').notNull(),
  errors: jsonb('errors').$type<unknown[]>().notNull(),
  detail: jsonb('detail').$type<Record<string, unknown>>().notNull(),
})
