import { type KeyObject, verify, X509Certificate } from 'node:crypto'
import { HoldfastError } from '../errors.ts'
import { parseJson } from '../json.ts'
import { canonicalBytes, manifestSha256, signingBytes } from './canonical.ts'
import { type BackupPlaceRef, contentsName, indexName } from './layout.ts'
import { MAX_MANIFEST_BYTES, type Manifest, manifestSchema, type SignedFacts, signedFactsSchema } from './manifest.ts'
import { parseVerifyingKey, verifyingKeyId } from './verifying-key.ts'

export interface Trust {
  /** The fleet's verifying key, `hfv1...` or parsed. */
  readonly verifyingKey?: string | KeyObject
}

export interface VerifiedManifest {
  readonly manifest: Manifest
  readonly sha256: Buffer
  readonly origin: 'verified' | 'not verified'
}

/**
 * Untrusted bytes of a `manifest.json`. Throws `manifest_forged` naming it when anything disagrees; `format_unknown` for a later
 * format. `place`: where it was found, which has to be where it says that it lies. Without the verifying key only the inner agreement is checked, and the origin is "not verified".
 */
export function verifyManifest(
  bytes: Buffer,
  trust: Trust = {},
  key = 'manifest.json',
  place?: BackupPlaceRef,
): VerifiedManifest {
  if (bytes.length > MAX_MANIFEST_BYTES) throw forged(key, 'it is larger than any manifest')
  const manifest = parse(bytes, key)
  if (!canonicalBytes(manifest).equals(bytes)) throw forged(key, 'its bytes are not the canonical form')
  verifySignedFacts({ facts: manifest.facts, agent: manifest.agent }, key)
  const { host, source, id } = manifest.facts
  const elsewhere = place && (place.host !== host || place.source !== source || place.id !== id)
  if (elsewhere) throw forged(key, `it is that of ${host}/${source}/${id}`)
  if (manifest.commit.fleet_id !== manifest.facts.fleet_id) throw forged(key, 'agent and fleet name different fleets')
  const sha256 = Buffer.from(manifestSha256(manifest), 'hex')
  if (trust.verifyingKey === undefined) return { manifest, sha256, origin: 'not verified' }
  const verifyingKey = typeof trust.verifyingKey === 'string' ? parseVerifyingKey(trust.verifyingKey) : trust.verifyingKey
  const { facts, agent, commit, fleet } = manifest
  const signature = exactBase64(fleet.signature, key)
  const right =
    fleet.key === verifyingKeyId(verifyingKey) &&
    verify(null, signingBytes('fleet', { facts, agent, commit }), verifyingKey, signature)
  if (!right) throw forged(key, "the fleet's signature is not right")
  return { manifest, sha256, origin: 'verified' }
}

/** The agent's half. Checks the signature and the chain's inner agreement, not who the agent is: that is the authority's affair. */
export function verifySignedFacts(signed: SignedFacts, key = 'the facts'): SignedFacts {
  const parsed = signedFactsSchema.safeParse(signed)
  if (!parsed.success) throw forged(key, 'it is of another shape', parsed.error)
  let chain: X509Certificate[]
  try {
    chain = parsed.data.agent.chain.map((pem) => new X509Certificate(pem))
  } catch (cause) {
    throw forged(key, 'a certificate is not readable', cause)
  }
  const leaf = chain[0] as X509Certificate
  chain.forEach((certificate, n) => {
    const issuer = chain[n + 1]
    if (issuer && !(certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)))
      throw forged(key, 'its certificates form no chain')
  })
  const signature = exactBase64(parsed.data.agent.signature, key)
  if (!hasSigned(leaf, signingBytes('agent', parsed.data.facts), signature)) {
    throw forged(key, "the agent's signature is not right")
  }
  checkObjects(parsed.data, key)
  return parsed.data
}

function hasSigned(leaf: X509Certificate, bytes: Buffer, signature: Buffer): boolean {
  try {
    return verify('sha256', bytes, leaf.publicKey, signature)
  } catch {
    // a key that cannot be read, or is of a kind that signs otherwise: whoever writes to the store may put any certificate here
    return false
  }
}

/** Base 64 has spare bits at its end: with them changed a manifest would have another hash and the same signature. */
function exactBase64(text: string, key: string): Buffer {
  const bytes = Buffer.from(text, 'base64')
  if (bytes.toString('base64') !== text) throw forged(key, 'a signature is not exactly base 64')
  return bytes
}

/** What the schema cannot say. */
function checkObjects({ facts }: SignedFacts, key: string): void {
  const names = new Set(facts.objects.map(({ name }) => name))
  if (names.size !== facts.objects.length) throw forged(key, 'it names an object twice')
  for (const needed of [contentsName(facts.attempt), indexName(facts.attempt), ...facts.keys.map(({ name }) => name)]) {
    if (!names.has(needed)) throw forged(key, `it does not name ${needed}`)
  }
  if (new Set(facts.leans_on.map(({ id }) => id)).size !== facts.leans_on.length)
    throw forged(key, 'it leans on one backup twice')
  for (const { host, source, id } of facts.leans_on) {
    const other = host !== facts.host || source !== facts.source || id === facts.id
    if (other) throw forged(key, 'it leans on a backup of another source, or on itself')
  }
}

function parse(bytes: Buffer, key: string): Manifest {
  let json: unknown
  try {
    json = parseJson(bytes)
  } catch (cause) {
    throw forged(key, 'it is no JSON', cause)
  }
  const format = (json as { facts?: { format?: unknown } } | null)?.facts?.format
  if (typeof format === 'number' && format > 1) {
    throw new HoldfastError('format_unknown', `${key} is of format ${format}`, {
      hint: 'Use a newer version of Holdfast.',
      context: { key },
    })
  }
  const manifest = manifestSchema.safeParse(json)
  if (!manifest.success) throw forged(key, 'it is of another shape', manifest.error)
  return manifest.data
}

const forged = (key: string, what: string, cause?: unknown) =>
  new HoldfastError('manifest_forged', `${key} is not to be believed: ${what}`, {
    hint: 'Use another copy of the backup. Somebody, or a failing disk, has changed this one.',
    context: { key },
    cause,
  })
