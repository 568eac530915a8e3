import { armor, Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from 'age-encryption'
import { HoldfastError } from '../errors.ts'
import { Secret } from '../secret.ts'

/** age (age-encryption.org/v1): sealing small secrets to public keys, so that an offline key can always open them. */

const RECIPIENT = /^age1[02-9ac-hj-np-z]{58}$/
const IDENTITY = /^AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}$/m

export async function newAgeIdentity(): Promise<Secret> {
  return new Secret(await generateX25519Identity())
}

export async function recipientOf(identity: Secret): Promise<string> {
  return identityToRecipient(identity.reveal())
}

/** Returns it trimmed, or throws `invalid_argument`. The checksum inside is checked too. */
export function requireRecipient(text: string): string {
  const recipient = text.trim()
  if (RECIPIENT.test(recipient) && accepted(recipient)) return recipient
  throw new HoldfastError('invalid_argument', `${JSON.stringify(recipient.slice(0, 80))} is not an age recipient`, {
    hint: 'Give the whole public key that begins with age1; it stands in the identity file as "# public key:".',
  })
}

function accepted(recipient: string): boolean {
  try {
    new Encrypter().addRecipient(recipient)
    return true
  } catch {
    // the bech32 checksum does not hold: the caller names what is wrong
    return false
  }
}

/** The first secret key in the text of an identity file. Throws `invalid_argument` when there is none. */
export function identityFromFile(text: Secret): Secret {
  const found = IDENTITY.exec(text.reveal())
  if (found) return new Secret(found[0])
  throw new HoldfastError('invalid_argument', 'the identity file holds no age secret key', {
    hint: 'Give the file that contains a line beginning with AGE-SECRET-KEY-1.',
  })
}

/** A binary age file that each of the recipients can open. */
export async function sealTo(recipients: readonly string[], plain: Buffer): Promise<Buffer> {
  if (recipients.length === 0) throw new HoldfastError('invalid_argument', 'sealing needs at least one recipient')
  const encrypter = new Encrypter()
  for (const recipient of recipients) encrypter.addRecipient(requireRecipient(recipient))
  return Buffer.from(await encrypter.encrypt(plain))
}

/** The same as text, for files that people keep. */
export async function sealArmoured(recipients: readonly string[], plain: Buffer): Promise<string> {
  return armor.encode(await sealTo(recipients, plain))
}

/** Opens a binary or an armoured age file. Throws `key_missing` when the identity is none of its recipients, or it was changed. */
export async function openWith(identity: Secret, sealed: Buffer | string): Promise<Buffer> {
  try {
    const decrypter = new Decrypter()
    decrypter.addIdentity(identity.reveal())
    const bytes = typeof sealed === 'string' ? armor.decode(sealed) : sealed
    return Buffer.from(await decrypter.decrypt(bytes))
  } catch (cause) {
    throw new HoldfastError('key_missing', 'this identity does not open the age file', {
      hint: 'Use an identity that the file was sealed to; a changed file opens with none.',
      cause,
    })
  }
}
