import { createHash } from 'node:crypto'
import { PutObjectCommand, type PutObjectCommandInput, type StorageClass } from '@aws-sdk/client-s3'
import { backoffMs } from '../../backoff.ts'
import { HoldfastError } from '../../errors.ts'
import { sameOrConflict } from '../object-errors.ts'
import type { S3Place } from './client.ts'
import { fromS3, isRace, isTaken } from './errors.ts'
import { getWhole, headObject } from './read.ts'

export function putInput(
  place: S3Place,
  key: string,
  object: { size: number; sha256: Buffer },
  overwrite: boolean,
): PutObjectCommandInput {
  return {
    Bucket: place.bucket,
    Key: place.prefix + key,
    ContentLength: object.size,
    ChecksumSHA256: object.sha256.toString('base64'),
    ...(overwrite ? {} : { IfNoneMatch: '*' }),
    ...(place.storageClass ? { StorageClass: place.storageClass as StorageClass } : {}),
  }
}

export interface Put {
  readonly sha256: Buffer
  readonly overwrite: boolean
  readonly lockUntil: Date | undefined
  readonly signal: AbortSignal | undefined
}

/** Tries after a race (409) or after a 412 whose object is not there: the first is over within a second. */
const TRIES = 8

/**
 * One PUT. The SDK sends it again after a lost reply, and then the service says 412 about our own object: so after a 412 the object
 * itself is asked for, and the same size and SHA-256 is success.
 */
export async function putObject(place: S3Place, key: string, body: Buffer, put: Put): Promise<void> {
  const wanted = { size: body.length, sha256: put.sha256 }
  for (let attempt = 1; ; attempt++) {
    try {
      const command = new PutObjectCommand({
        ...putInput(place, key, wanted, put.overwrite),
        // not GOVERNANCE, which whoever has enough rights may lift
        ...(put.lockUntil ? { ObjectLockMode: 'COMPLIANCE', ObjectLockRetainUntilDate: put.lockUntil } : {}),
        Body: body,
      })
      await place.client.send(command, { abortSignal: put.signal })
      return
    } catch (error) {
      put.signal?.throwIfAborted()
      if (isTaken(error)) {
        const there = await described(place, key, put.signal)
        if (there) return sameOrConflict(key, wanted, there)
      } else if (!isRace(error)) {
        throw fromS3(error, `object ${key} in bucket ${place.bucket}`)
      }
      if (attempt === TRIES) throw fromS3(error, `object ${key} in bucket ${place.bucket}`)
    }
    await place.clock.sleep(backoffMs(attempt, 50, 2000), put.signal)
  }
}

/** Size and SHA-256 of what lies there; null when nothing does. Where the service keeps no SHA-256, the bytes are read. */
async function described(place: S3Place, key: string, signal?: AbortSignal): Promise<{ size: number; sha256: Buffer } | null> {
  const head = await headObject(place, key, signal)
  if (!head) return null
  if (head.sha256) return { size: head.size, sha256: head.sha256 }
  const bytes = await getWhole(place, key, signal)
  return { size: bytes.length, sha256: createHash('sha256').update(bytes).digest() }
}

/** A body that is not what the caller says is refused here already, whatever the service checks. */
export function requireBody(key: string, body: Buffer, said: Buffer | undefined): Buffer {
  const sha256 = createHash('sha256').update(body).digest()
  if (!said || said.equals(sha256)) return sha256
  throw new HoldfastError('object_damaged', `the body for object ${key} does not match its SHA-256`, {
    hint: 'It was changed in memory or named wrongly. Try again; if it happens again, test the memory of this machine.',
    retry: true,
  })
}
