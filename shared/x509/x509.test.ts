import { X509Certificate } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import {
  agentUri,
  issueForAgent,
  issueForServer,
  keyOfSigningRequest,
  newAuthority,
  newSigningRequest,
  serialOf,
} from './authority.ts'
import { CONTROL_PLANE_NAME } from './control-plane-name.ts'
import { newKeyPair } from './key-pair.ts'
import { commonName, isIssuedBy, normalizePin, pinOf, publicKeySha256, readChain, timeOf } from './read.ts'

const now = new Date('2026-03-01T12:00:00Z')
const DAY = 86_400_000

describe('certificates of a fleet', async () => {
  const authority = await newAuthority('f1', now)
  const root = new X509Certificate(authority.certificatePem)

  test('an agent certificate carries name, fleet and id, is for clients only, and is signed by the authority', async () => {
    const { publicKey } = await newKeyPair()
    const issued = await issueForAgent(authority, { publicKey, fleetId: 'f1', agentId: 'a1', name: 'db1', now, lifetimeMs: DAY })
    const [leaf, last] = readChain(issued.chainPem) ?? []
    if (!leaf || !last) throw new Error('no chain')
    expect(commonName(leaf)).toBe('db1')
    expect(leaf.subjectAltName).toBe(`URI:${agentUri('f1', 'a1')}`)
    expect(leaf.keyUsage).toEqual(['1.3.6.1.5.5.7.3.2'])
    expect(leaf.ca).toBe(false)
    expect(serialOf(leaf)).toBe(issued.serial)
    expect(isIssuedBy(leaf, root)).toBe(true)
    expect(pinOf(last)).toBe(pinOf(root))
    expect(publicKeySha256(leaf.publicKey)).toEqual(publicKeySha256(publicKey))
    expect(timeOf(leaf, now)).toBe('valid')
    expect(timeOf(leaf, new Date(now.getTime() + DAY + 1000))).toBe('expired')
    expect(timeOf(leaf, new Date(now.getTime() - DAY))).toBe('not-yet')
  })

  test('an authority of the same name with another key did not issue it', async () => {
    const other = new X509Certificate((await newAuthority('f1', now)).certificatePem)
    const { publicKey } = await newKeyPair()
    const issued = await issueForServer(authority, { publicKey, hosts: ['cp.example.com', '10.0.0.1'], now, lifetimeMs: DAY })
    const leaf = new X509Certificate(issued.pem)
    expect(isIssuedBy(leaf, root)).toBe(true)
    expect(isIssuedBy(leaf, other)).toBe(false)
    expect(leaf.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1'])
    expect(leaf.checkHost(CONTROL_PLANE_NAME)).toBeTruthy()
    expect(leaf.checkHost('cp.example.com')).toBeTruthy()
    expect(leaf.checkIP('10.0.0.1')).toBeTruthy()
  })

  test('a leaf cannot issue: only an authority is accepted as issuer', async () => {
    const pair = await newKeyPair()
    const mid = await issueForServer(authority, { publicKey: pair.publicKey, hosts: [], now, lifetimeMs: DAY })
    const forged = await issueForAgent(
      { certificatePem: mid.pem, privateKey: pair.privateKey },
      { publicKey: pair.publicKey, fleetId: 'f1', agentId: 'a9', name: 'evil', now, lifetimeMs: DAY },
    )
    expect(isIssuedBy(new X509Certificate(forged.pem), new X509Certificate(mid.pem))).toBe(false)
  })

  test('a signing request gives its key only when its own signature holds', async () => {
    const mine = await newKeyPair()
    const other = await newKeyPair()
    const good = await keyOfSigningRequest(await newSigningRequest(mine.privateKey, mine.publicKey))
    expect(good && publicKeySha256(good)).toEqual(publicKeySha256(mine.publicKey))
    expect(await keyOfSigningRequest(await newSigningRequest(other.privateKey, mine.publicKey))).toBeNull()
    expect(await keyOfSigningRequest('no request')).toBeNull()
    expect(await keyOfSigningRequest('')).toBeNull()
  })

  test('chains are bounded and unreadable ones are refused', () => {
    expect(readChain('')).toBeNull()
    expect(readChain('-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----')).toBeNull()
    expect(readChain(authority.certificatePem.repeat(6))).toBeNull()
    expect(readChain('x'.repeat(70_000))).toBeNull()
  })

  test('a pin is forgiven its case and colons and nothing else', () => {
    const pin = pinOf(root)
    expect(normalizePin(pin.toUpperCase())).toBe(pin)
    expect(normalizePin(`sha256:${root.fingerprint256}`)).toBe(pin)
    expect(normalizePin('sha256:12')).toBeNull()
    expect(normalizePin(pin.replace('sha256', 'sha1'))).toBeNull()
  })
})
