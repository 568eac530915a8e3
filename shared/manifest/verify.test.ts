import { createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { TEST_AGENT_CHAIN, TEST_AGENT_KEY } from '../repository/testing/agent-identity.ts'
import { canonicalBytes, manifestSha256, signingBytes } from './canonical.ts'
import { readFleetObject, writeFleetObject } from './fleet-object.ts'
import type { Commit, Facts, Manifest } from './manifest.ts'
import { commitManifest, signFacts } from './sign.ts'
import { verifyManifest, verifySignedFacts } from './verify.ts'
import { verifyingKeyOfIdentityFile, verifyingKeyText } from './verifying-key.ts'

const agent = { privateKey: createPrivateKey(TEST_AGENT_KEY), chainPem: TEST_AGENT_CHAIN }
/** Of RFC 8032, test 1: a key that is nobody's. */
const fleetKey = createPrivateKey({
  key: Buffer.from('302e020100300506032b6570042204209d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60', 'hex'),
  format: 'der',
  type: 'pkcs8',
})
const verifyingKey = verifyingKeyText(createPublicKey(fleetKey))

const facts: Facts = {
  format: 1,
  fleet_id: 'fleet-test',
  host: 'db1',
  source: 'app',
  engine: 'files',
  id: '20260101T020000Z-k7q2m4x9tb',
  attempt: 1,
  type: 'incremental',
  objects: [
    { name: 'keys/1', size: 500, sha256: '11'.repeat(32) },
    { name: 'packs/1-0123456789abcdef', size: 4096, sha256: '22'.repeat(32) },
    { name: 'contents/1', size: 1024, sha256: '33'.repeat(32) },
    { name: 'index/1', size: 1024, sha256: '44'.repeat(32) },
  ],
  keys: [{ name: 'keys/1', attempt: 1, check: '55'.repeat(32) }],
  recipients: ['age1qqqqqqqqqqqqqqqqqqqq'],
  leans_on: [{ host: 'db1', source: 'app', id: '20251231T020000Z-aaaaaaaaaa', manifest_sha256: '66'.repeat(32) }],
  read_bytes: 10_000,
  stored_bytes: 6644,
  total_count: 12,
}
const commit: Commit = {
  fleet_id: 'fleet-test',
  committed_at: '2026-01-01T03:00:00.000Z',
  sequence: 2,
  predecessor: '66'.repeat(32),
}

/** Of a key that takes no digest: it signs itself, and is nobody's. */
const ED25519_CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIHJMH2gAwIBAgIBATAFBgMrZXAwDDEKMAgGA1UEAxMBeDAgFw0yNjAxMDEwMDAw
MDBaGA8yMTI2MDEwMTAwMDAwMFowDDEKMAgGA1UEAxMBeDAqMAUGAytlcAMhAJ7x
cXy9mff/V1GN5w+zo388ekvg16TR8fSRVIYrjWu4owIwADAFBgMrZXADQQAq8Hhu
/WVP/M5JWY/kBEKnwskudQcmGVcVc3ANMZmohlsTz361lMPGzwe8nJKLbE4XPB8q
sgjJu1Fz84FDB3gG
-----END CERTIFICATE-----
`

const make = (change: Partial<Facts> = {}, by = fleetKey) => commitManifest(signFacts({ ...facts, ...change }, agent), commit, by)
const resign = (manifest: Manifest) =>
  commitManifest({ facts: manifest.facts, agent: manifest.agent }, manifest.commit, fleetKey).bytes

describe('a manifest', () => {
  test('is believed with the verifying key, and without it its origin is not verified', () => {
    const { bytes, sha256, manifest } = make()
    expect(verifyManifest(bytes, { verifyingKey })).toEqual({ manifest, sha256, origin: 'verified' })
    expect(verifyManifest(bytes).origin).toBe('not verified')
    expect(manifestSha256(manifest)).toBe(sha256.toString('hex'))
  })

  test('golden manifest: signing bytes and canonical form stay as they are', () => {
    expect(signingBytes('agent', facts).toString()).toMatchSnapshot()
    const signed = { facts, agent: { chain: ['x'], signature: 'AAAA' } }
    const { bytes, sha256 } = commitManifest(signed, commit, fleetKey)
    expect(bytes.toString()).toMatchSnapshot()
    expect(sha256.toString('hex')).toMatchInlineSnapshot(`"5ea29a7d95722b987cd3387734b8cf2d05d0155815efdcffa8ab823c2d849c27"`)
    expect(verifyingKey).toMatchInlineSnapshot(`"hfv1txd9g0c2p45bfnabzv9wjs07787e2wqkvak269df08d6hxr7a4daq6mavm"`)
  })

  test('any change of any byte is manifest_forged, naming it', () => {
    const { bytes } = make()
    fc.assert(
      fc.property(fc.integer({ min: 0, max: bytes.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, by) => {
        const copy = Buffer.from(bytes)
        copy[at] = (copy[at] as number) ^ by
        expect(() => verifyManifest(copy, { verifyingKey }, 'db1/app/x/manifest.json')).toThrow(
          expect.objectContaining({
            code: expect.stringMatching(/manifest_forged|format_unknown/),
            context: { key: 'db1/app/x/manifest.json' },
          }),
        )
      }),
      { numRuns: 400 },
    )
  })

  test('of another fleet, of another agent key, or put together from two, is refused', () => {
    const other = generateKeyPairSync('ed25519')
    expect(() => verifyManifest(make({}, other.privateKey).bytes, { verifyingKey })).toThrow(/fleet's signature/)
    const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const signed = signFacts(facts, { ...agent, privateKey: stranger.privateKey })
    expect(() => verifyManifest(commitManifest(signed, commit, fleetKey).bytes, { verifyingKey })).toThrow(/agent's signature/)
    const mixed = { ...make().manifest, facts: { ...facts, total_count: 13 } }
    // even the fleet's own signature does not make up for the agent's
    expect(() => verifyManifest(resign(mixed), { verifyingKey })).toThrow(/agent's signature/)
    const [leaf, authority] = make().manifest.agent.chain as [string, string]
    const broken = { ...make().manifest, agent: { ...make().manifest.agent, chain: [leaf, leaf, authority] } }
    expect(() => verifyManifest(resign(broken), { verifyingKey })).toThrow(/form no chain/)
  })

  test('with a certificate whose key cannot be read, or signs otherwise, is refused like any other', () => {
    const leaf = new X509Certificate(make().manifest.agent.chain[0] as string)
    const key = leaf.publicKey.export({ type: 'spki', format: 'der' })
    const raw = Buffer.from(leaf.raw)
    // no point of the curve any more
    raw.writeUInt8(raw.readUInt8(raw.indexOf(key) + key.length - 1) ^ 1, raw.indexOf(key) + key.length - 1)
    const offCurve = `-----BEGIN CERTIFICATE-----\n${raw.toString('base64').replace(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`
    expect(() => new X509Certificate(offCurve).publicKey).toThrow()
    for (const pem of [offCurve, ED25519_CERTIFICATE]) {
      const { facts, agent: signed } = make().manifest
      const forged = expect.objectContaining({ code: 'manifest_forged', message: expect.stringMatching(/agent's signature/) })
      expect(() => verifySignedFacts({ facts, agent: { ...signed, chain: [pem] } })).toThrow(forged)
    }
  })

  test('with its agent’s signature alone it is refused: nobody has taken it for a backup', () => {
    const { fleet: _fleet, ...uncommitted } = make().manifest
    for (const options of [{ verifyingKey }, {}])
      expect(() => verifyManifest(canonicalBytes(uncommitted), options)).toThrow(
        expect.objectContaining({ code: 'manifest_forged' }),
      )
  })

  test('in the place of another backup it is refused', () => {
    const place = { host: 'db1', source: 'app', id: facts.id }
    expect(verifyManifest(make().bytes, { verifyingKey }, 'm', place).origin).toBe('verified')
    expect(() => verifyManifest(make().bytes, { verifyingKey }, 'm', { ...place, host: 'db2' })).toThrow(/db1\/app/)
  })

  test('facts that contradict themselves are refused before they are committed', () => {
    const [keys, pack, contents] = facts.objects as [Facts['objects'][0], Facts['objects'][0], Facts['objects'][0]]
    const wrong: Array<Partial<Facts>> = [
      { objects: [keys, pack, contents] },
      { objects: [...facts.objects, pack] },
      { leans_on: [...facts.leans_on, ...facts.leans_on] },
      { leans_on: [{ host: 'db2', source: 'app', id: '20251231T020000Z-aaaaaaaaaa', manifest_sha256: '66'.repeat(32) }] },
      { leans_on: [{ host: 'db1', source: 'app', id: facts.id, manifest_sha256: '66'.repeat(32) }] },
    ]
    for (const change of wrong) {
      expect(() => verifySignedFacts(signFacts({ ...facts, ...change }, agent))).toThrow(
        expect.objectContaining({ code: 'manifest_forged' }),
      )
    }
    expect(() => signFacts({ ...facts, host: '../x' }, agent)).toThrow()
  })

  test('of a later format it says so; garbage and other forms of the same JSON are refused', () => {
    const { bytes, manifest } = make()
    const later = canonicalBytes({ ...manifest, facts: { ...facts, format: 2 } })
    expect(() => verifyManifest(later)).toThrow(expect.objectContaining({ code: 'format_unknown' }))
    for (const garbage of ['', 'null', '[]', '{"facts":null}', '{}', JSON.stringify(manifest, null, 1), `${bytes} `]) {
      expect(() => verifyManifest(Buffer.from(garbage)), garbage.slice(0, 20)).toThrow(
        expect.objectContaining({ code: 'manifest_forged' }),
      )
    }
  })
})

describe('holdfast.json and the identity file', () => {
  test('say whose the target is', () => {
    const bytes = writeFleetObject({ fleetId: 'f', verifyingKey })
    expect(readFleetObject(bytes)).toEqual({ format: 1, fleet_id: 'f', verifying_key: verifyingKey })
    for (const wrong of ['', '{}', '{"format":2}', `${bytes}x`, 'x'.repeat(5000)]) {
      expect(() => readFleetObject(Buffer.from(wrong))).toThrow(expect.objectContaining({ code: 'format_unknown' }))
    }
    const mistyped = bytes.toString().replace('hfv1', 'hfv10')
    expect(() => readFleetObject(Buffer.from(mistyped))).toThrow(expect.objectContaining({ code: 'invalid_argument' }))
    expect(verifyingKeyOfIdentityFile(`# recipient: age1x\n#  verifying key: ${verifyingKey} \nAGE-SECRET-KEY-1X`)).toBe(
      verifyingKey,
    )
    expect(verifyingKeyOfIdentityFile('AGE-SECRET-KEY-1X')).toBeUndefined()
  })
})
