import { Decrypter, Encrypter } from 'age-encryption'
import { z } from 'zod'
import { HoldfastError, isHoldfastError } from '../errors.ts'
import { readJson } from '../json.ts'
import type { BackupPlaceRef } from '../manifest/layout.ts'
import { Secret } from '../secret.ts'
import { damaged, LIMITS, placeOf } from './format.ts'

/** `keys/<n>` (FORMAT.md section 3): the data keys of a backup's attempts, in one plain age file for its recipients. */

export interface AttemptKey {
  readonly attempt: number
  /** 32 bytes. */
  readonly dataKey: Secret<Buffer>
}

export interface OpenedKeys {
  readonly backup: BackupPlaceRef
  readonly keys: readonly AttemptKey[]
}

const payloadSchema = z.strictObject({
  format: z.literal(1),
  host: z.string().max(63),
  source: z.string().max(63),
  id: z.string().max(64),
  keys: z
    .array(z.strictObject({ attempt: z.number().int().min(1).max(999_999), key: z.string().regex(/^[0-9a-f]{64}$/) }))
    .min(1)
    .max(1000),
})

/** `recipients` are age public keys; at least one. */
export async function sealDataKeys(
  backup: BackupPlaceRef,
  keys: readonly AttemptKey[],
  recipients: readonly string[],
): Promise<Buffer> {
  const payload = {
    format: 1,
    host: backup.host,
    source: backup.source,
    id: backup.id,
    keys: keys.map((row) => ({ attempt: row.attempt, key: row.dataKey.reveal().toString('hex') })),
  }
  return sealToRecipients(Buffer.from(JSON.stringify(payload)), recipients)
}

/** `identities`: age identities (AGE-SECRET-KEY-1...). Throws `key_missing` when none of them is a recipient, `object_damaged` for the rest. */
export async function openDataKeys(file: Buffer, identities: readonly Secret[], objectKey = 'keys'): Promise<OpenedKeys> {
  const plain = await openSealed(file, identities, objectKey, LIMITS.keyFile)
  const payload = readJson(plain, payloadSchema)
  if (!payload.success) throw damaged(objectKey, 'it holds no data keys', payload.error)
  const { host, source, id, keys } = payload.data
  return {
    backup: { host, source, id },
    keys: keys.map((row) => ({ attempt: row.attempt, dataKey: new Secret(Buffer.from(row.key, 'hex')) })),
  }
}

/** The same keys for other recipients: a rotation, or the opening of a backup for one job. */
export async function rewrapDataKeys(
  file: Buffer,
  identities: readonly Secret[],
  recipients: readonly string[],
): Promise<Buffer> {
  const opened = await openDataKeys(file, identities)
  return sealDataKeys(opened.backup, opened.keys, recipients)
}

export async function sealToRecipients(plain: Buffer, recipients: readonly string[]): Promise<Buffer> {
  if (recipients.length === 0) {
    throw new HoldfastError('key_missing', 'there is no recipient to seal to', { hint: 'Give at least one age recipient.' })
  }
  const encrypter = new Encrypter()
  for (const recipient of new Set(recipients)) {
    try {
      encrypter.addRecipient(recipient)
    } catch (cause) {
      throw new HoldfastError('invalid_argument', `${JSON.stringify(recipient)} is not an age recipient`, {
        hint: 'A recipient begins with age1 and is printed by age-keygen -y.',
        cause,
      })
    }
  }
  return Buffer.from(await encrypter.encrypt(plain))
}

export async function openSealed(file: Buffer, identities: readonly Secret[], objectKey: string, limit: number): Promise<Buffer> {
  if (file.length > limit) throw damaged(objectKey, 'it is too large')
  const decrypter = new Decrypter()
  for (const identity of identities) decrypter.addIdentity(identity.reveal())
  try {
    return Buffer.from(await decrypter.decrypt(file))
  } catch (cause) {
    if (cause instanceof Error && cause.message.startsWith('no identity matched')) {
      throw new HoldfastError('key_missing', `${objectKey} is not sealed to any of the identities at hand`, {
        hint: 'Give the identity of one of the recipients that the manifest lists.',
        context: { key: objectKey },
      })
    }
    if (isHoldfastError(cause)) throw cause
    throw damaged(objectKey, 'it does not open', cause)
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

/** The key of an attempt as others name it in messages. */
export const keyName = (backup: BackupPlaceRef, attempt: number): string => `${placeOf(backup)} attempt ${attempt}`
