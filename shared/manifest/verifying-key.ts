import { createHash, createPublicKey, type KeyObject } from 'node:crypto'
import { HoldfastError } from '../errors.ts'

/**
 * The fleet's verifying key as people copy it: `hfv1` and base 32 (Crockford's alphabet, lower case) of the 32 raw bytes and
 * four bytes of checksum, most significant bit first, padded with zero bits (FORMAT.md, 12).
 */

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'
const LENGTH = Math.ceil((36 * 8) / 5)
/** SubjectPublicKeyInfo of Ed25519 up to the key itself (RFC 8410). */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')

export function verifyingKeyText(key: KeyObject): string {
  const raw = rawOf(key)
  return `hfv1${base32(Buffer.concat([raw, checksum(raw)]))}`
}

/** Throws `invalid_argument` when a character is missing, wrong or swapped. */
export function parseVerifyingKey(text: string): KeyObject {
  const bytes = unbase32(text.trim().toLowerCase())
  const raw = bytes?.subarray(0, 32)
  if (!bytes || !raw || !checksum(raw).equals(bytes.subarray(32))) {
    throw new HoldfastError('invalid_argument', 'the verifying key is not complete or was mistyped', {
      hint: 'Copy the whole text that begins with hfv1, as it stands in the recovery key file.',
    })
  }
  return createPublicKey({ key: Buffer.concat([SPKI_PREFIX, raw]), format: 'der', type: 'spki' })
}

/** First 16 hexadecimal digits of the SHA-256 of the raw key: names it in manifests. */
export function verifyingKeyId(key: KeyObject): string {
  return createHash('sha256').update(rawOf(key)).digest('hex').slice(0, 16)
}

const rawOf = (key: KeyObject) => {
  const spki = key.export({ type: 'spki', format: 'der' })
  if (key.asymmetricKeyType !== 'ed25519') throw new HoldfastError('internal', 'a verifying key has to be an Ed25519 key')
  return spki.subarray(-32)
}

const checksum = (raw: Buffer) => createHash('sha256').update('hfv1').update(raw).digest().subarray(0, 4)

function base32(bytes: Buffer): string {
  let out = ''
  let bits = 0
  let value = 0
  for (const byte of bytes) {
    value = (value << 8) | byte
    bits += 8
    while (bits >= 5) {
      out += ALPHABET[(value >>> (bits - 5)) & 31]
      bits -= 5
    }
    value &= (1 << bits) - 1
  }
  return bits > 0 ? out + ALPHABET[(value << (5 - bits)) & 31] : out
}

function unbase32(text: string): Buffer | null {
  const digits = text.startsWith('hfv1') ? text.slice(4) : ''
  if (digits.length !== LENGTH) return null
  const out: number[] = []
  let bits = 0
  let value = 0
  for (const digit of digits) {
    const index = ALPHABET.indexOf(digit)
    if (index < 0) return null
    value = (value << 5) | index
    bits += 5
    if (bits >= 8) {
      out.push((value >>> (bits - 8)) & 255)
      bits -= 8
    }
    value &= (1 << bits) - 1
  }
  return value === 0 ? Buffer.from(out) : null
}

/** The key that the comment lines of an identity file carry, if any. */
export function verifyingKeyOfIdentityFile(text: string): string | undefined {
  return /^#\s*verifying key:\s*(hfv1[0-9a-z]+)\s*$/m.exec(text)?.[1]
}
