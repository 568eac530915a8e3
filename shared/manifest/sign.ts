import { createPublicKey, hash, type KeyObject, sign } from 'node:crypto'
import { HoldfastError } from '../errors.ts'
import { canonicalBytes, signingBytes } from './canonical.ts'
import {
  type Commit,
  commitSchema,
  type Facts,
  factsSchema,
  MAX_MANIFEST_BYTES,
  type Manifest,
  type SignedFacts,
} from './manifest.ts'
import { verifyingKeyId } from './verifying-key.ts'

/** The agent's half: `privateKey` is that of the first certificate of `chainPem`. */
export function signFacts(facts: Facts, identity: { privateKey: KeyObject; chainPem: string }): SignedFacts {
  const parsed = factsSchema.safeParse(facts)
  if (!parsed.success) {
    const tooMany = facts.objects.length > 200_000
    throw new HoldfastError(
      tooMany ? 'too_large' : 'invalid_argument',
      `the facts of ${facts.id} are not of the format: ${parsed.error.message}`,
      {
        hint: tooMany ? 'Split the source: a backup has 200,000 objects at most.' : 'Check the names of host, source and engine.',
      },
    )
  }
  const checked = parsed.data
  const signature = sign('sha256', signingBytes('agent', checked), identity.privateKey)
  return { facts: checked, agent: { chain: splitChain(identity.chainPem), signature: signature.toString('base64') } }
}

/** The control plane's half: an Ed25519 private key. The agent's half must have been verified. */
export function commitManifest(
  signed: SignedFacts,
  commit: Commit,
  fleetSigningKey: KeyObject,
): { manifest: Manifest; bytes: Buffer; sha256: Buffer } {
  const body = { facts: signed.facts, agent: signed.agent, commit: commitSchema.parse(commit) }
  const signature = sign(null, signingBytes('fleet', body), fleetSigningKey)
  const manifest = {
    ...body,
    fleet: { key: verifyingKeyId(createPublicKey(fleetSigningKey)), signature: signature.toString('base64') },
  }
  const bytes = canonicalBytes(manifest)
  if (bytes.length > MAX_MANIFEST_BYTES) {
    throw new HoldfastError('too_large', `the manifest of ${signed.facts.id} would have ${bytes.length} bytes`, {
      hint: 'Split the source; a manifest holds 64 MiB at most.',
    })
  }
  return { manifest, bytes, sha256: hash('sha256', bytes, 'buffer') }
}

/** The PEM certificates of a chain file, one each. */
export function splitChain(chainPem: string): string[] {
  return (chainPem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []).map((pem) => `${pem}\n`)
}
