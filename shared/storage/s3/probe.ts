import { createHash } from 'node:crypto'
import { GetObjectLockConfigurationCommand, HeadBucketCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { HoldfastError } from '../../errors.ts'
import { randomBase32 } from '../../ids.ts'
import type { TargetFacts } from '../target.ts'
import { signS3Put } from './address.ts'
import type { S3Place } from './client.ts'
import { fromS3, isTaken } from './errors.ts'
import { getObject, headObject, listObjects } from './read.ts'
import { keepsVersions, takeAway } from './take-away.ts'
import { putInput } from './write.ts'

/**
 * Tries on the service itself what the repository rests on. What it may lack becomes a fact; a range, a listing or a removal that
 * does not work throws `target_refused`, since nothing can be done without them.
 */
export async function probeS3(place: S3Place, name: string, signal?: AbortSignal): Promise<TargetFacts> {
  const key = `holdfast-probe/${randomBase32(16)}`
  const body = Buffer.from(`probe ${randomBase32(16)}`)
  const sha256 = createHash('sha256').update(body).digest()
  const versioned = await keepsVersions(place, signal)
  try {
    await sendOnce(place, key, body, sha256, signal)
    const conditionalPut = await refusesSecond(place, key, signal)
    const checksumOnPut = await refusesOtherBodies(place, key, body, sha256, signal)
    const head = await headObject(place, key, signal)
    require(name, head?.size === body.length, 'say the size of what was just written')
    const part = await getObject(place, key, { offset: 2, length: 5 }, signal)
    require(name, !conditionalPut || part.equals(body.subarray(2, 7)), 'read a range back')
    require(name, await isListed(place, key, signal), 'list what was just written')
    await takeAway(place, key, versioned, signal)
    require(name, (await headObject(place, key, signal)) === null, 'remove an object')
    const checksumOnHead = head?.sha256?.equals(sha256) ?? false
    return { conditionalPut, checksumOnPut, checksumOnHead, versioned, ...(await bucketFacts(place, signal)) }
  } finally {
    for (const suffix of ['', '-wrong', '-longer']) await takeAway(place, key + suffix, versioned)
  }
}

function require(name: string, kept: boolean, promise: string): void {
  if (kept) return
  throw new HoldfastError('target_refused', `storage target ${name} does not ${promise}`, {
    hint: 'The service is not compatible enough with S3 to hold backups. Choose another.',
  })
}

async function sendOnce(place: S3Place, key: string, body: Buffer, sha256: Buffer, signal?: AbortSignal): Promise<void> {
  const command = new PutObjectCommand({ ...putInput(place, key, { size: body.length, sha256 }, false), Body: body })
  try {
    await place.client.send(command, { abortSignal: signal })
  } catch (error) {
    signal?.throwIfAborted()
    // the key is random: a 412 can only be about our own put, sent again by the SDK
    if (!isTaken(error)) throw fromS3(error, `object ${key} in bucket ${place.bucket}`)
  }
}

/** The same key with the same length, so that only the condition can be the reason. */
async function refusesSecond(place: S3Place, key: string, signal?: AbortSignal): Promise<boolean> {
  const second = Buffer.from(`again ${randomBase32(16)}`)
  const sha256 = createHash('sha256').update(second).digest()
  const command = new PutObjectCommand({ ...putInput(place, key, { size: second.length, sha256 }, false), Body: second })
  try {
    await place.client.send(command, { abortSignal: signal })
    return false
  } catch (error) {
    signal?.throwIfAborted()
    if (isTaken(error)) return true
    throw fromS3(error, `object ${key} in bucket ${place.bucket}`)
  }
}

/** By signed addresses, as agents will: a wrong body of the right length, and a longer one. */
async function refusesOtherBodies(
  place: S3Place,
  key: string,
  body: Buffer,
  sha256: Buffer,
  signal?: AbortSignal,
): Promise<boolean> {
  const bodies = { '-wrong': Buffer.from(body).reverse(), '-longer': Buffer.concat([body, Buffer.from('more')]) }
  for (const [suffix, other] of Object.entries(bodies)) {
    const address = await signS3Put(place, key + suffix, { size: body.length, sha256 })
    const { 'content-length': _, ...headers } = address.headers
    const answer = await fetch(address.url, {
      method: 'PUT',
      headers,
      body: new Uint8Array(other),
      redirect: 'error',
      signal,
    }).catch(() => {
      signal?.throwIfAborted()
      throw noAnswer(place)
    })
    await answer.body?.cancel()
    if (answer.ok) return false
    if (answer.status >= 500) throw noAnswer(place)
  }
  return true
}

function noAnswer(place: S3Place): HoldfastError {
  return new HoldfastError('target_unreachable', `no good answer from bucket ${place.bucket} at a signed address`, {
    hint: 'The service answers other calls: look at proxies on the way and at the state of the service.',
  })
}

async function isListed(place: S3Place, key: string, signal?: AbortSignal): Promise<boolean> {
  for await (const object of listObjects(place, 'holdfast-probe/', signal)) if (object.key === key) return true
  return false
}

async function bucketFacts(place: S3Place, signal?: AbortSignal): Promise<Pick<TargetFacts, 'objectLock' | 'region'>> {
  const Bucket = place.bucket
  const lock = await place.client
    .send(new GetObjectLockConfigurationCommand({ Bucket }), { abortSignal: signal })
    .catch(() => null)
  const head = await place.client.send(new HeadBucketCommand({ Bucket }), { abortSignal: signal }).catch(() => null)
  signal?.throwIfAborted()
  return {
    objectLock: lock?.ObjectLockConfiguration?.ObjectLockEnabled === 'Enabled',
    region: head?.BucketRegion ?? (await place.client.config.region()),
  }
}
