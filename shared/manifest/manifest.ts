import { z } from 'zod'
import { listOf } from '../json.ts'

/**
 * `manifest.json`, the commit point of a backup and the only clear object that describes it. It holds no hash of plaintext
 * and no name out of the store. Untrusted input: everything is bounded.
 */

const hex32 = z.string().regex(/^[0-9a-f]{64}$/)
const backupId = z.string().regex(/^\d{8}T\d{6}Z-[0-9a-hjkmnp-tv-z]{10}$/)
const name = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/)
const count = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER)

export const objectFactSchema = z.strictObject({
  /** Relative to the backup's folder. */
  name: z.string().regex(/^((contents|index|keys)\/[1-9][0-9]{0,5}|packs\/[1-9][0-9]{0,5}-[0-9a-hjkmnp-tv-z]{16})$/),
  size: count,
  sha256: hex32,
})
export type ObjectFact = z.infer<typeof objectFactSchema>

export const leansOnSchema = z.strictObject({ host: name, source: name, id: backupId, manifest_sha256: hex32 })
export type LeansOn = z.infer<typeof leansOnSchema>

/** What the agent says and signs. */
export const factsSchema = z.strictObject({
  format: z.literal(1),
  fleet_id: z.string().max(64),
  host: name,
  source: name,
  engine: z.string().regex(/^[a-z][a-z0-9-]{0,31}$/),
  id: backupId,
  attempt: z.number().int().positive().max(999_999),
  type: z.enum(['full', 'incremental', 'differential']),
  /** Everything in the backup's folder but the manifest. */
  objects: listOf(objectFactSchema, 200_000),
  /** One row for each attempt whose key this backup needs. `check` tells a wrong key from damage. */
  keys: listOf(
    z.strictObject({ name: z.string().regex(/^keys\/[1-9][0-9]{0,5}$/), attempt: z.number().int().positive(), check: hex32 }),
    1000,
  ),
  recipients: listOf(z.string().regex(/^age1[0-9a-z]{10,120}$/), 100),
  /** Every backup of which a block is used. Nothing else is ever read. */
  leans_on: listOf(leansOnSchema, 1000),
  read_bytes: count,
  stored_bytes: count,
  /** Sum of the fingerprint's counts: a sharp fall is noticed without opening anything. */
  total_count: count,
})
export type Facts = z.infer<typeof factsSchema>

export const signedFactsSchema = z.strictObject({
  facts: factsSchema,
  agent: z.strictObject({
    /** PEM certificates, the agent's first. */
    chain: listOf(z.string().max(20_000), 5).refine((chain) => chain.length > 0, "a chain has at least the agent's certificate"),
    /** Base64, ECDSA P-256 with SHA-256 over `signingBytes('agent', facts)`. */
    signature: z.string().max(2000),
  }),
})
export type SignedFacts = z.infer<typeof signedFactsSchema>

/** What the control plane adds. */
export const commitSchema = z.strictObject({
  fleet_id: z.string().max(64),
  committed_at: z.iso.datetime(),
  /** Counts up by one with each backup of the source, from 1. */
  sequence: z.number().int().positive(),
  /** SHA-256 of the manifest with the sequence before this one; null for the first. */
  predecessor: hex32.nullable(),
})
export type Commit = z.infer<typeof commitSchema>

export const manifestSchema = z.strictObject({
  ...signedFactsSchema.shape,
  commit: commitSchema,
  fleet: z.strictObject({
    /** First 16 hex digits of the verifying key's SHA-256. */
    key: z.string().regex(/^[0-9a-f]{16}$/),
    /** Base64, Ed25519 over `signingBytes('fleet', {facts, agent, commit})`. */
    signature: z.string().max(200),
  }),
})
export type Manifest = z.infer<typeof manifestSchema>

/** Largest manifest.json that is read. */
export const MAX_MANIFEST_BYTES = 64 * 1024 * 1024
