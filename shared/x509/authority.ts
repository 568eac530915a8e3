import 'reflect-metadata'
import { KeyObject, randomBytes, type X509Certificate } from 'node:crypto'
import * as x509 from '@peculiar/x509'
import { CONTROL_PLANE_NAME } from './control-plane-name.ts'
import { ECDSA, newKeyPair } from './key-pair.ts'

/**
 * Certificates of one fleet: an authority (ECDSA P-256), servers and agents. Times are the caller's. What a certificate may
 * be used for stands in its extended key usage, so that an agent's certificate never passes for a control plane's.
 */

const DAY_MS = 86_400_000
/** A clock that lags a little behind the authority's must not refuse a certificate made this minute. */
const BACKDATE_MS = 10 * 60_000

export interface KeyAndCertificate {
  readonly certificatePem: string
  readonly privateKey: KeyObject
}

export interface IssuedCertificate {
  /** Hexadecimal, lower case, 128 random bits. */
  readonly serial: string
  /** The certificate alone, PEM. */
  readonly pem: string
  /** Leaf first, authority last. */
  readonly chainPem: string
  readonly notBefore: Date
  readonly notAfter: Date
}

/** A new root that may sign certificates and nothing below other authorities. */
export async function newAuthority(fleetId: string, now: Date): Promise<KeyAndCertificate> {
  const { publicKey, privateKey } = await newKeyPair()
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=Holdfast fleet ${fleetId}`,
    serialNumber: newSerial(),
    // hosts whose clock was never set still reach the check that names the difference
    notBefore: new Date(now.getTime() - 365 * DAY_MS),
    notAfter: new Date(now.getTime() + 25 * 365 * DAY_MS),
    signingAlgorithm: ECDSA,
    keys: { publicKey: verifyKey(publicKey), privateKey: signKey(privateKey) },
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(verifyKey(publicKey)),
    ],
  })
  return { certificatePem: pemOf(certificate), privateKey }
}

/** For a control plane's listeners: valid for CONTROL_PLANE_NAME and the given host names and addresses. */
export async function issueForServer(
  authority: KeyAndCertificate,
  server: { publicKey: KeyObject; hosts: readonly string[]; now: Date; lifetimeMs: number },
): Promise<IssuedCertificate> {
  const names = [CONTROL_PLANE_NAME, ...server.hosts.filter((host) => host !== CONTROL_PLANE_NAME)]
  return issue(authority, server, `CN=${CONTROL_PLANE_NAME}`, x509.ExtendedKeyUsage.serverAuth, [
    new x509.SubjectAlternativeNameExtension(
      [...new Set(names)].map((value) => ({ type: /^[\d.]+$|:/.test(value) ? ('ip' as const) : ('dns' as const), value })),
    ),
  ])
}

/** For an agent: the common name is the host's name, the alternative name carries the fleet and the agent's id. */
export async function issueForAgent(
  authority: KeyAndCertificate,
  agent: { publicKey: KeyObject; fleetId: string; agentId: string; name: string; now: Date; lifetimeMs: number },
): Promise<IssuedCertificate> {
  return issue(authority, agent, `CN=${agent.name}`, x509.ExtendedKeyUsage.clientAuth, [
    new x509.SubjectAlternativeNameExtension([{ type: 'url', value: agentUri(agent.fleetId, agent.agentId) }]),
  ])
}

export const agentUri = (fleetId: string, agentId: string): string => `holdfast://${fleetId}/agent/${agentId}`

async function issue(
  authority: KeyAndCertificate,
  subject: { publicKey: KeyObject; now: Date; lifetimeMs: number },
  name: string,
  usage: x509.ExtendedKeyUsage,
  names: x509.Extension[],
): Promise<IssuedCertificate> {
  const issuer = new x509.X509Certificate(authority.certificatePem)
  const notBefore = wholeSeconds(subject.now.getTime() - BACKDATE_MS)
  const notAfter = wholeSeconds(subject.now.getTime() + subject.lifetimeMs)
  const serial = newSerial()
  const certificate = await x509.X509CertificateGenerator.create({
    subject: name,
    issuer: issuer.subject,
    serialNumber: serial,
    notBefore,
    notAfter,
    signingAlgorithm: ECDSA,
    publicKey: verifyKey(subject.publicKey),
    signingKey: signKey(authority.privateKey),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([usage], true),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
      ...names,
    ],
  })
  const pem = pemOf(certificate)
  return { serial, pem, chainPem: pem + authority.certificatePem, notBefore, notAfter }
}

/** A PKCS#10 request that proves possession of the private key. */
export async function newSigningRequest(privateKey: KeyObject, publicKey: KeyObject): Promise<string> {
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: 'CN=holdfast-agent',
    signingAlgorithm: ECDSA,
    keys: { publicKey: verifyKey(publicKey), privateKey: signKey(privateKey) },
  })
  return `${request.toString('pem').trim()}\n`
}

/** The public key of a signing request whose own signature holds, or null: not a request, another kind of key, or forged. */
export async function keyOfSigningRequest(pem: string): Promise<KeyObject | null> {
  try {
    const request = new x509.Pkcs10CertificateRequest(pem)
    const key = KeyObject.from(await request.publicKey.export(ECDSA, ['verify']))
    if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') return null
    return (await request.verify()) ? key : null
  } catch {
    // the parser throws many kinds of error at hostile input; each means the same to the caller
    return null
  }
}

const wholeSeconds = (ms: number) => new Date(Math.floor(ms / 1000) * 1000)
const pemOf = (certificate: x509.X509Certificate) => `${certificate.toString('pem').trim()}\n`
const verifyKey = (key: KeyObject) => key.toCryptoKey(ECDSA, true, ['verify'])
const signKey = (key: KeyObject) => key.toCryptoKey(ECDSA, false, ['sign'])

/** 127 random bits, never 0 in its first byte: DER keeps all its digits and the number stays positive. */
function newSerial(): string {
  const bytes = randomBytes(16)
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40
  return bytes.toString('hex')
}

/** The serial number as this module writes it. */
export const serialOf = (certificate: X509Certificate): string => certificate.serialNumber.toLowerCase()
