import { createCipheriv, createDecipheriv } from 'node:crypto'
import { giveBack } from '../give-back.ts'
import type { BackupPlaceRef } from '../manifest/layout.ts'
import { damaged, placeOf, type SealKind, TAG_BYTES } from './format.ts'

/** Where sealed bytes belong: bound into them as additional data (FORMAT.md section 4). */
export interface SealPlace {
  readonly backup: BackupPlaceRef
  readonly attempt: number
  /** Relative to the backup's folder. */
  readonly object: string
}

const additional = (place: SealPlace, kind: SealKind, number: number): Buffer =>
  Buffer.from(`holdfast/1\0${kind}\0${placeOf(place.backup)}\0${place.attempt}\0${place.object}\0${number}`)

function nonce(number: number): Buffer {
  const bytes = Buffer.alloc(12)
  bytes.writeUInt32LE(number, 0)
  return bytes
}

/** Ciphertext and tag. The key is of this object alone and `number` is used once with it: else GCM protects nothing. */
export function seal(key: Buffer, place: SealPlace, kind: SealKind, number: number, plain: Buffer): Buffer {
  const sealed = Buffer.allocUnsafe(plain.length + TAG_BYTES)
  sealInto(sealed, 0, { key, place, kind, number, plain })
  return sealed
}

/** The same, into `target` from `at` on, where there is room for it. Returns where it ends. */
export function sealInto(
  target: Buffer,
  at: number,
  { key, place, kind, number, plain }: { key: Buffer; place: SealPlace; kind: SealKind; number: number; plain: Buffer },
): number {
  const cipher = createCipheriv('aes-256-gcm', key, nonce(number), { authTagLength: TAG_BYTES })
  cipher.setAAD(additional(place, kind, number))
  const body = cipher.update(plain)
  const end = at + body.copy(target, at)
  giveBack(body)
  cipher.final()
  return end + cipher.getAuthTag().copy(target, end)
}

/** Throws `object_damaged` naming the object unless every bit, and the place, are as sealed. */
export function unseal(key: Buffer, place: SealPlace, kind: SealKind, number: number, sealed: Buffer): Buffer {
  const objectKey = `${placeOf(place.backup)}/${place.object}`
  if (sealed.length < TAG_BYTES) throw damaged(objectKey, `${kind} ${number} is too short`)
  const decipher = createDecipheriv('aes-256-gcm', key, nonce(number), { authTagLength: TAG_BYTES })
  decipher.setAAD(additional(place, kind, number))
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES))
  const body = decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES))
  try {
    decipher.final()
  } catch (cause) {
    throw damaged(objectKey, `${kind} ${number} does not open`, cause)
  }
  return body
}
