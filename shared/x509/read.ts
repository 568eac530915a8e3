import { createHash, type KeyObject, timingSafeEqual, X509Certificate } from 'node:crypto'

/** Reading and judging certificates that others present: untrusted input. */

const MAX_CHAIN_BYTES = 64 * 1024
const MAX_CERTIFICATES = 5
const PEM = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\r\n]{1,20000}-----END CERTIFICATE-----/g

/** Certificates of a PEM text, in order; null when there is none, too many, or one that cannot be read. */
export function readChain(pem: string): X509Certificate[] | null {
  if (pem.length > MAX_CHAIN_BYTES) return null
  const blocks = pem.match(PEM) ?? []
  if (blocks.length === 0 || blocks.length > MAX_CERTIFICATES) return null
  try {
    return blocks.map((block) => new X509Certificate(block))
  } catch {
    // unreadable is an answer, not a fault: the caller refuses
    return null
  }
}

/** True when `authority` signed `certificate` and may do so. Says nothing about time. */
export function isIssuedBy(certificate: X509Certificate, authority: X509Certificate): boolean {
  return authority.ca && certificate.checkIssued(authority) && certificate.verify(authority.publicKey)
}

export const validFrom = (certificate: X509Certificate): Date => certificate.validFromDate
export const validTo = (certificate: X509Certificate): Date => certificate.validToDate

/** Where `now` lies relative to the certificate's validity. */
export function timeOf(certificate: X509Certificate, now: Date): 'valid' | 'not-yet' | 'expired' {
  if (now < validFrom(certificate)) return 'not-yet'
  return now > validTo(certificate) ? 'expired' : 'valid'
}

/** The host's name in an agent's certificate. */
export function commonName(certificate: X509Certificate): string | null {
  return /^CN=(.+)$/m.exec(certificate.subject)?.[1] ?? null
}

/** SHA-256 of the key as SubjectPublicKeyInfo (DER). */
export const publicKeySha256 = (key: KeyObject): Buffer =>
  createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest()

/** `sha256:` and the hexadecimal digest of the certificate (DER): what an invitation carries. */
export const pinOf = (certificate: X509Certificate): string =>
  `sha256:${createHash('sha256').update(certificate.raw).digest('hex')}`

export const PIN = /^sha256:[0-9a-f]{64}$/

/** Case and colons as people paste them are forgiven; null when it is no pin. */
export function normalizePin(pin: string): string | null {
  const [kind = '', ...rest] = pin.trim().toLowerCase().split(':')
  const normal = `${kind}:${rest.join('')}`
  return PIN.test(normal) ? normal : null
}

export function samePin(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)]
  return left.length === right.length && timingSafeEqual(left, right)
}
