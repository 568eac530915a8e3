import { sql } from 'drizzle-orm'
import { bigint, boolean, check, index, integer, jsonb, pgTable, primaryKey, text, uniqueIndex } from 'drizzle-orm/pg-core'
import { bytea, instant } from './columns.ts'

/** Hosts that enrolled. A replaced one keeps its row with state `replaced` and gives its name free. */
export const agents = pgTable(
  'agents',
  {
    id: text('id').primaryKey(),
    name: text('name').notNull(),
    state: text('state').$type<'active' | 'suspended' | 'revoked' | 'replaced'>().notNull(),
    stateReason: text('state_reason'),
    ageRecipient: text('age_recipient').notNull(),
    labels: jsonb('labels').$type<Record<string, string>>().notNull().default({}),
    version: text('version'),
    os: text('os'),
    arch: text('arch'),
    clockOffsetMs: bigint('clock_offset_ms', { mode: 'number' }),
    /** Last epoch given to a stream; counts up in SQL. */
    sessionEpoch: bigint('session_epoch', { mode: 'number' }).notNull().default(0),
    generation: integer('generation').notNull().default(0),
    createdAt: instant('created_at').notNull(),
    lastSeenAt: instant('last_seen_at'),
  },
  (t) => [
    uniqueIndex('agents_name_in_use').on(t.name).where(sql`state in ('active', 'suspended')`),
    check('agents_state', sql`state in ('active', 'suspended', 'revoked', 'replaced')`),
  ],
)

export const certificates = pgTable(
  'certificates',
  {
    serial: text('serial').primaryKey(),
    agentId: text('agent_id')
      .notNull()
      .references(() => agents.id),
    generation: integer('generation').notNull(),
    publicKeySha256: bytea('public_key_sha256').notNull(),
    pem: text('pem').notNull(),
    notBefore: instant('not_before').notNull(),
    notAfter: instant('not_after').notNull(),
    revokedAt: instant('revoked_at'),
    revokedReason: text('revoked_reason'),
  },
  (t) => [uniqueIndex('certificates_generation').on(t.agentId, t.generation)],
)

/** Only the hash of a token is kept. */
export const enrolmentTokens = pgTable('enrolment_tokens', {
  id: text('id').primaryKey(),
  tokenSha256: bytea('token_sha256').notNull().unique(),
  name: text('name').notNull(),
  replace: boolean('replace').notNull().default(false),
  createdBy: text('created_by').notNull(),
  createdAt: instant('created_at').notNull(),
  expiresAt: instant('expires_at').notNull(),
  usedAt: instant('used_at'),
  publicKeySha256: bytea('public_key_sha256'),
  agentId: text('agent_id').references(() => agents.id),
  certificateSerial: text('certificate_serial').references(() => certificates.serial),
})

export const renewalNonces = pgTable('renewal_nonces', {
  nonceSha256: bytea('nonce_sha256').primaryKey(),
  certificateSerial: text('certificate_serial').notNull(),
  expiresAt: instant('expires_at').notNull(),
  usedAt: instant('used_at'),
})

/** Running control planes. */
export const instances = pgTable('instances', {
  id: text('id').primaryKey(),
  startedAt: instant('started_at').notNull(),
  heartbeatAt: instant('heartbeat_at').notNull(),
})

/** Writes by an epoch older than `agents.session_epoch` are refused. */
export const sessions = pgTable(
  'sessions',
  {
    agentId: text('agent_id')
      .notNull()
      .references(() => agents.id),
    epoch: bigint('epoch', { mode: 'number' }).notNull(),
    /** The control plane that holds the stream. */
    instanceId: text('instance_id').notNull(),
    agentInstance: text('agent_instance').notNull(),
    certificateSerial: text('certificate_serial').notNull(),
    connectedAt: instant('connected_at').notNull(),
    heartbeatAt: instant('heartbeat_at').notNull(),
    endedAt: instant('ended_at'),
    endReason: text('end_reason'),
  },
  (t) => [primaryKey({ columns: [t.agentId, t.epoch] }), index('sessions_open').on(t.instanceId).where(sql`ended_at is null`)],
)

/** Secrets of the fleet, sealed: they open with the key service or a recovery identity, never with this table alone. */
export const fleetKeys = pgTable('fleet_keys', {
  /** authority, signing, identity, addresses */
  name: text('name').primaryKey(),
  /** Certificate, verifying key or recipient: what may be shown. */
  publicPart: text('public_part').notNull(),
  /** By the key service. */
  protectedPart: jsonb('protected_part').$type<Record<string, string>>().notNull(),
  /** An armoured age file for the recovery recipients. */
  recoveryPart: text('recovery_part').notNull(),
  createdAt: instant('created_at').notNull(),
})

export const fleet = pgTable('fleet', {
  /** Always 1. */
  row: integer('row').primaryKey(),
  id: text('id').notNull(),
  recoveryRecipients: jsonb('recovery_recipients').$type<string[]>().notNull(),
  createdAt: instant('created_at').notNull(),
})
