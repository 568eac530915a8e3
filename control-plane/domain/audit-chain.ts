import { createHash, type KeyObject, sign, verify } from 'node:crypto'
import canonicalize from 'canonicalize'
import { z } from 'zod'

/**
 * The audit trail as a chain: each entry's hash covers the one before, so that an entry that was changed, taken out or put in
 * shows. A trail whose end was cut off is still a chain: that shows by heads that were signed and kept elsewhere.
 */

export interface AuditEvent {
  /** key:NAME, agent:NAME, control-plane, anonymous:ADDRESS */
  readonly actor: string
  readonly action: string
  readonly subject: string
  readonly outcome: 'done' | 'refused' | 'failed'
  readonly detail: Readonly<Record<string, unknown>>
}

export interface AuditEntry extends AuditEvent {
  /** Counts up by one, from 1. */
  readonly sequence: number
  /** Whole milliseconds: the catalog keeps no less, and the hash covers it. */
  readonly at: Date
  readonly previousHash: Buffer
  readonly hash: Buffer
}

/** What the first entry follows. */
export const GENESIS = Buffer.alloc(32)

/** SHA-256 over the hash before and the entry as canonical JSON (RFC 8785). */
export function entryHash(previousHash: Buffer, entry: Omit<AuditEntry, 'previousHash' | 'hash'>): Buffer {
  const { sequence, at, actor, action, subject, outcome, detail } = entry
  const text = canonicalize({ sequence, at: at.toISOString(), actor, action, subject, outcome, detail })
  return createHash('sha256')
    .update(previousHash)
    .update(text ?? '')
    .digest()
}

export interface AuditError {
  readonly sequence: number
  readonly message: string
}

/** What is wrong with an entry, given the one before; null when it follows. */
export function chainError(before: { sequence: number; hash: Buffer }, entry: AuditEntry): AuditError | null {
  const wrong = (message: string) => ({ sequence: entry.sequence, message })
  if (entry.sequence !== before.sequence + 1) return wrong(`entries ${before.sequence + 1} to ${entry.sequence - 1} are missing`)
  if (!entry.previousHash.equals(before.hash)) return wrong('it does not follow the entry before it')
  if (!entryHash(entry.previousHash, entry).equals(entry.hash)) return wrong('it was changed after it was written')
  return null
}

/** A head of the trail, signed with the fleet's key and kept in a bucket. */
export const signedHeadSchema = z.strictObject({
  format: z.literal(1),
  fleet_id: z.string().max(64),
  at: z.iso.datetime(),
  sequence: z.number().int().nonnegative(),
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  signature: z.string().max(200),
})
export type SignedHead = z.infer<typeof signedHeadSchema>

export function signHead(
  head: { sequence: number; hash: Buffer },
  by: { fleetId: string; signer: KeyObject; at: Date },
): SignedHead {
  const facts = {
    format: 1 as const,
    fleet_id: by.fleetId,
    at: by.at.toISOString(),
    sequence: head.sequence,
    hash: head.hash.toString('hex'),
  }
  return { ...facts, signature: sign(null, signingBytes(facts), by.signer).toString('base64') }
}

/** False for a head of another fleet or with a signature that is not the fleet's. */
export function isOurHead(head: SignedHead, fleet: { fleetId: string; verifyingKey: KeyObject }): boolean {
  const { signature, ...facts } = head
  return (
    head.fleet_id === fleet.fleetId && verify(null, signingBytes(facts), fleet.verifyingKey, Buffer.from(signature, 'base64'))
  )
}

/** The first line keeps a signature from ever passing for one over something else of the fleet's. */
function signingBytes(facts: Omit<SignedHead, 'signature'>): Buffer {
  return Buffer.from(`holdfast audit head v1\n${canonicalize(facts) ?? ''}`)
}
