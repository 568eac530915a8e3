import { z } from 'zod'
import { openWith, sealTo } from '../age/age.ts'
import { HoldfastError, isHoldfastError } from '../errors.ts'
import { listOf, readJson } from '../json.ts'
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
  keys: listOf(
    z.strictObject({ attempt: z.number().int().min(1).max(999_999), key: z.string().regex(/^[0-9a-f]{64}$/) }),
    1000,
  ).refine((rows) => rows.length > 0, 'there is no key in it'),
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
  return sealTo(recipients, Buffer.from(JSON.stringify(payload)))
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

export async function openSealed(file: Buffer, identities: readonly Secret[], objectKey: string, limit: number): Promise<Buffer> {
  if (file.length > limit) throw damaged(objectKey, 'it is too large')
  try {
    return await openWith(identities, file)
  } catch (cause) {
    if (!isHoldfastError(cause, 'key_missing')) throw damaged(objectKey, 'it does not open', cause)
    throw new HoldfastError('key_missing', `${objectKey} is not sealed to any of the identities at hand`, {
      hint: 'Give the identity of one of the recipients that the manifest lists.',
      context: { key: objectKey },
    })
  }
}

/** The key of an attempt as others name it in messages. */
export const keyName = (backup: BackupPlaceRef, attempt: number): string => `${placeOf(backup)} attempt ${attempt}`
