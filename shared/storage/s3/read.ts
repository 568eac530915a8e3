import { Readable } from 'node:stream'
import { GetObjectCommand, type GetObjectCommandOutput, HeadObjectCommand, ListObjectsV2Command } from '@aws-sdk/client-s3'
import { backoffMs } from '../../backoff.ts'
import { HoldfastError } from '../../errors.ts'
import { isKey } from '../key.ts'
import { tooLargeToHold, tooShort } from '../object-errors.ts'
import type { ByteRange } from '../range.ts'
import { type ListedObject, MAX_OBJECT_BYTES, type ObjectHead } from '../target.ts'
import type { S3Place } from './client.ts'
import { fromS3, isAbsent, statusOf } from './errors.ts'

const nameOf = (place: S3Place, key: string) => `object ${key} in bucket ${place.bucket}`

export async function headObject(place: S3Place, key: string, signal?: AbortSignal): Promise<ObjectHead | null> {
  try {
    const command = new HeadObjectCommand({ Bucket: place.bucket, Key: place.prefix + key, ChecksumMode: 'ENABLED' })
    const head = await place.client.send(command, { abortSignal: signal })
    if (head.ContentLength === undefined || !head.LastModified) throw noSense(place, key)
    return { size: head.ContentLength, sha256: wholeChecksum(head.ChecksumSHA256), modified: head.LastModified }
  } catch (error) {
    signal?.throwIfAborted()
    if (isAbsent(error)) return null
    throw fromS3(error, nameOf(place, key))
  }
}

/** Of an object sent in parts it is a hash of hashes, with "-N" behind it: not what we ask for. */
function wholeChecksum(base64: string | undefined): Buffer | null {
  if (!base64 || base64.includes('-')) return null
  const sha256 = Buffer.from(base64, 'base64')
  return sha256.length === 32 ? sha256 : null
}

/** A connection may break within a body, which the SDK does not try again. */
const TRIES = 4

export async function getObject(place: S3Place, key: string, range: ByteRange | null, signal?: AbortSignal): Promise<Buffer> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await getOnce(place, key, range, signal)
    } catch (error) {
      signal?.throwIfAborted()
      const mapped = fromS3(error, nameOf(place, key))
      if (!(mapped instanceof HoldfastError && mapped.code === 'target_unreachable') || attempt === TRIES) throw mapped
      await place.clock.sleep(backoffMs(attempt, 100, 5000), signal)
    }
  }
}

export const getWhole = (place: S3Place, key: string, signal?: AbortSignal) => getObject(place, key, null, signal)

async function getOnce(place: S3Place, key: string, range: ByteRange | null, signal?: AbortSignal): Promise<Buffer> {
  const { body, size } = await openBody(place, key, range, signal)
  const expected = range?.length ?? size
  const pieces: Buffer[] = []
  let received = 0
  try {
    for await (const piece of body) {
      received += piece.length
      if (received > MAX_OBJECT_BYTES || received > size) break
      pieces.push(piece)
    }
  } finally {
    body.destroy()
  }
  if (received > MAX_OBJECT_BYTES) throw tooLargeToHold(key, size)
  // fewer bytes than the answer announced: cut on the way. Fewer announced than asked for: the object is short
  if (received !== size) {
    throw new HoldfastError('target_unreachable', `${received} of ${size} bytes of ${nameOf(place, key)} came`, {
      hint: 'The connection to the service broke; it is tried again.',
    })
  }
  if (range && size < expected) throw tooShort(key, null, range)
  return Buffer.concat(pieces, received)
}

export async function openBody(
  place: S3Place,
  key: string,
  range: ByteRange | null,
  signal?: AbortSignal,
): Promise<{ body: Readable; size: number }> {
  const end = range?.length === undefined ? '' : range.offset + range.length - 1
  const command = new GetObjectCommand({
    Bucket: place.bucket,
    Key: place.prefix + key,
    ...(range ? { Range: `bytes=${range.offset}-${end}` } : {}),
  })
  let answer: GetObjectCommandOutput
  try {
    answer = await place.client.send(command, { abortSignal: signal })
  } catch (error) {
    if (range && statusOf(error) === 416) throw tooShort(key, null, range)
    throw error
  }
  if (!(answer.Body instanceof Readable) || answer.ContentLength === undefined) throw noSense(place, key)
  if (range && !answer.ContentRange?.startsWith(`bytes ${range.offset}-`)) {
    answer.Body.destroy()
    throw noSense(place, key)
  }
  return { body: answer.Body, size: answer.ContentLength }
}

function noSense(place: S3Place, key: string): HoldfastError {
  return new HoldfastError('target_unreachable', `the service's answer about ${nameOf(place, key)} makes no sense`, {
    hint: 'Something between this program and the service changes answers, or the service is not compatible with S3.',
  })
}

/**
 * In key order. Keys that are none of ours are left out, and so is what a service repeats or lists out of order: a listing is
 * a hint, and a page that names itself as the next one must not keep us for ever.
 */
export async function* listObjects(place: S3Place, prefix: string, signal?: AbortSignal): AsyncGenerator<ListedObject> {
  let token: string | undefined
  let last = ''
  do {
    const command = new ListObjectsV2Command({ Bucket: place.bucket, Prefix: place.prefix + prefix, ContinuationToken: token })
    const page = await place.client.send(command, { abortSignal: signal }).catch((error: unknown) => {
      signal?.throwIfAborted()
      throw fromS3(error, `the list of ${prefix || 'everything'} in bucket ${place.bucket}`)
    })
    const before = last
    for (const { Key: full, Size: size, LastModified: modified } of page.Contents ?? []) {
      const key = full?.startsWith(place.prefix) ? full.slice(place.prefix.length) : ''
      if (!isKey(key) || !key.startsWith(prefix) || key <= last || size === undefined || !modified) continue
      last = key
      yield { key, size, modified }
    }
    const next = page.IsTruncated ? page.NextContinuationToken : undefined
    token = next === token && last === before ? undefined : next
  } while (token)
}
