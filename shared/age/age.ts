import { armor, Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from 'age-encryption'
import { HoldfastError } from '../errors.ts'
import { Secret } from '../secret.ts'

/** age (age-encryption.org/v1): sealing small secrets to public keys, so that an offline key can always open them. */

const RECIPIENT = /^age1[02-9ac-hj-np-z]{58}$/

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

/** Lines of an age identity file. Comments and empty lines are left out. Throws `invalid_argument` for a line that is no identity. */
export function parseIdentityFile(text: string): Secret[] {
  return text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line.startsWith('AGE-SECRET-KEY-'))
    .map((line) => {
      try {
        new Decrypter().addIdentity(line)
      } catch {
        // the cause is left out: it may repeat the line
        throw new HoldfastError('invalid_argument', 'an identity is not readable', {
          hint: 'An identity is one whole line that begins with AGE-SECRET-KEY-1, as age-keygen prints it.',
        })
      }
      return new Secret(line)
    })
}

/** A binary age file that each of the recipients can open. Throws `key_missing` without any, `invalid_argument` for what is no recipient. */
export async function sealTo(recipients: readonly string[], plain: Buffer): Promise<Buffer> {
  if (recipients.length === 0) {
    throw new HoldfastError('key_missing', 'there is no recipient to seal to', { hint: 'Give at least one age recipient.' })
  }
  const encrypter = new Encrypter()
  for (const recipient of new Set(recipients)) encrypter.addRecipient(requireRecipient(recipient))
  return await through((bytes) => encrypter.encrypt(bytes), plain)
}

/** The same as text, for files that people keep. */
export async function sealArmoured(recipients: readonly string[], plain: Buffer): Promise<string> {
  return armor.encode(await sealTo(recipients, plain))
}

/**
 * Opens a binary or an armoured age file. Throws `key_missing` when no identity is one of its recipients, `object_damaged` when it
 * is changed or no age file.
 */
export async function openWith(identities: readonly Secret[], sealed: Buffer | string): Promise<Buffer> {
  const decrypter = new Decrypter()
  for (const identity of identities) decrypter.addIdentity(identity.reveal())
  try {
    const bytes = typeof sealed === 'string' ? armor.decode(sealed) : sealed
    return await through((stream) => decrypter.decrypt(stream), bytes)
  } catch (cause) {
    if (cause instanceof Error && cause.message.startsWith('no identity matched')) {
      throw new HoldfastError('key_missing', 'no identity at hand opens the age file', {
        hint: 'Use an identity that the file was sealed to.',
        cause,
      })
    }
    throw new HoldfastError('object_damaged', 'the age file does not open: it was changed, or is none', {
      hint: 'Use another copy of it.',
      cause,
    })
  }
}

/**
 * By a stream of ours, read here: what the library is given as a whole it collects with `Response`, for which Node loads all of its HTTP client, 7 MB and 50 ms of
 * processor time for each job.
 */
async function through(work: (bytes: ReadableStream) => Promise<ReadableStream>, bytes: Uint8Array): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  for await (const piece of await work(ReadableStream.from([bytes]))) pieces.push(piece)
  return Buffer.concat(pieces)
}
