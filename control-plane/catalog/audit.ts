import type { KeyObject } from 'node:crypto'
import { and, asc, desc, eq, gt, lt } from 'drizzle-orm'
import type { Clock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import {
  type AuditEntry,
  type AuditError,
  type AuditEvent,
  chainError,
  entryHash,
  GENESIS,
  type SignedHead,
  signHead,
} from '../domain/audit-chain.ts'
import type { Catalog, Db } from './catalog.ts'
import { auditEntries, auditHead } from './schema/operators.ts'
import { storable, storableJson } from './text.ts'

const MAX_DETAIL_CHARACTERS = 16_000
const VERIFY_BATCH = 1000
/** How many errors a check lists before it stops looking. */
const MAX_ERRORS = 100

/** As the last statement of `tx`: from here to its end no other entry can be written. */
export async function appendAudit(tx: Db, event: AuditEvent, at: Date): Promise<void> {
  await tx.insert(auditHead).values({ row: 1, sequence: 0, hash: GENESIS }).onConflictDoNothing()
  const [head] = await tx.select().from(auditHead).where(eq(auditHead.row, 1)).for('update')
  if (!head) throw new HoldfastError('internal', 'the audit trail has no head')
  const entry = { ...kept(event), sequence: head.sequence + 1, at }
  const hash = entryHash(head.hash, entry)
  await tx.insert(auditEntries).values({ ...entry, previousHash: head.hash, hash })
  await tx.update(auditHead).set({ sequence: entry.sequence, hash }).where(eq(auditHead.row, 1))
}

/** Records in a transaction of its own, so that a refusal outlives what it refused. Rejects when it could not be recorded. */
export function auditTrail(catalog: Catalog, clock: Clock): (event: AuditEvent) => Promise<void> {
  return (event) => catalog.transaction((tx) => appendAudit(tx, event, clock.now()))
}

/** What the catalog can hold and give back unchanged, so that the hash is true for ever: plain JSON, bounded. */
function kept(event: AuditEvent): AuditEvent {
  const plain = JSON.parse(JSON.stringify(event.detail)) as Record<string, unknown>
  const detail = storableJson(plain)
  const text = JSON.stringify(detail)
  return {
    actor: storable(event.actor, 300),
    action: storable(event.action, 200),
    subject: storable(event.subject, 300),
    outcome: event.outcome,
    detail: text.length <= MAX_DETAIL_CHARACTERS ? detail : { shortened: storable(text, MAX_DETAIL_CHARACTERS) },
  }
}

export type AuditRow = typeof auditEntries.$inferSelect

/** Newest first; `before` is the sequence number of the last entry of the page before. */
export async function listAuditEntries(
  db: Db,
  filter: { actor?: string | undefined; action?: string | undefined; subject?: string | undefined },
  page: { limit: number; before?: number | undefined },
): Promise<AuditRow[]> {
  return await db
    .select()
    .from(auditEntries)
    .where(
      and(
        filter.actor === undefined ? undefined : eq(auditEntries.actor, filter.actor),
        filter.action === undefined ? undefined : eq(auditEntries.action, filter.action),
        filter.subject === undefined ? undefined : eq(auditEntries.subject, filter.subject),
        page.before === undefined ? undefined : lt(auditEntries.sequence, page.before),
      ),
    )
    .orderBy(desc(auditEntries.sequence))
    .limit(page.limit)
}

async function readHead(db: Db): Promise<{ sequence: number; hash: Buffer }> {
  const [head] = await db.select().from(auditHead).where(eq(auditHead.row, 1))
  return head ?? { sequence: 0, hash: GENESIS }
}

/** For the object that is put into the bucket every hour. */
export async function signedHead(db: Db, by: { fleetId: string; signer: KeyObject; at: Date }): Promise<SignedHead> {
  return signHead(await readHead(db), by)
}

export interface AuditCheck {
  readonly valid: boolean
  readonly entries: number
  readonly head: Buffer
  readonly errors: AuditError[]
}

/**
 * Walks the whole chain. `heads` are signed heads out of a bucket, checked by the caller to be the fleet's: an entry that one
 * of them names and that is not there, or is another, was cut off or written anew.
 */
export async function verifyAudit(db: Db, heads: readonly SignedHead[] = []): Promise<AuditCheck> {
  const head = await readHead(db)
  const signed = new Map(heads.map((one) => [one.sequence, one.hash]))
  const errors: AuditError[] = []
  let last = { sequence: 0, hash: GENESIS as Buffer }
  let entries = 0
  while (errors.length < MAX_ERRORS) {
    const batch = await batchAfter(db, last.sequence)
    for (const entry of batch) {
      const error = chainError(last, entry) ?? headError(signed, entry)
      if (error) errors.push(error)
      last = entry
    }
    entries += batch.length
    if (batch.length < VERIFY_BATCH) break
  }
  // entries may have been added while we walked: then the head that was read is behind, never ahead
  if (last.sequence < head.sequence) errors.push({ sequence: head.sequence, message: 'the trail ends before its head' })
  for (const one of heads) {
    if (one.sequence > last.sequence)
      errors.push({ sequence: one.sequence, message: `a head of ${one.at} is beyond the trail's end` })
  }
  return { valid: errors.length === 0, entries, head: last.hash, errors: errors.slice(0, MAX_ERRORS) }
}

async function batchAfter(db: Db, sequence: number): Promise<AuditEntry[]> {
  return await db
    .select()
    .from(auditEntries)
    .where(gt(auditEntries.sequence, sequence))
    .orderBy(asc(auditEntries.sequence))
    .limit(VERIFY_BATCH)
}

function headError(signed: ReadonlyMap<number, string>, entry: AuditEntry): AuditError | null {
  const hash = signed.get(entry.sequence)
  if (hash === undefined || hash === entry.hash.toString('hex')) return null
  return { sequence: entry.sequence, message: 'the entry is not the one whose hash was signed' }
}
