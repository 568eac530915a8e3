import { bigint, integer, jsonb, pgTable, primaryKey, text } from 'drizzle-orm/pg-core'
import { bytea, instant } from './columns.ts'

/** Only the hash of a key is kept. */
export const apiKeys = pgTable('api_keys', {
  id: text('id').primaryKey(),
  name: text('name').notNull(),
  secretSha256: bytea('secret_sha256').notNull().unique(),
  role: text('role').$type<'viewer' | 'operator' | 'admin'>().notNull(),
  /** Patterns of host/name; empty: all. */
  sources: jsonb('sources').$type<string[]>().notNull(),
  createdBy: text('created_by').notNull(),
  createdAt: instant('created_at').notNull(),
  expiresAt: instant('expires_at'),
  revokedAt: instant('revoked_at'),
  lastUsedAt: instant('last_used_at'),
})

export const idempotencyKeys = pgTable(
  'idempotency_keys',
  {
    apiKeyId: text('api_key_id').notNull(),
    key: text('key').notNull(),
    requestSha256: bytea('request_sha256').notNull(),
    /** Null while the first request is still at work. */
    status: integer('status'),
    response: jsonb('response'),
    createdAt: instant('created_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.apiKeyId, t.key] })],
)

/** Each entry is chained to the one before by its hash; one writer at a time, by a lock on `audit_head`. */
export const auditEntries = pgTable('audit_entries', {
  sequence: bigint('sequence', { mode: 'number' }).primaryKey(),
  at: instant('at').notNull(),
  /** key:NAME, agent:NAME, control-plane, anonymous:ADDRESS */
  actor: text('actor').notNull(),
  action: text('action').notNull(),
  subject: text('subject').notNull(),
  outcome: text('outcome').$type<'done' | 'refused' | 'failed'>().notNull(),
  detail: jsonb('detail').$type<Record<string, unknown>>().notNull(),
  previousHash: bytea('previous_hash').notNull(),
  hash: bytea('hash').notNull(),
})

export const auditHead = pgTable('audit_head', {
  /** Always 1. */
  row: integer('row').primaryKey(),
  sequence: bigint('sequence', { mode: 'number' }).notNull(),
  hash: bytea('hash').notNull(),
})
