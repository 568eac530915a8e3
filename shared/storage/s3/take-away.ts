import { DeleteObjectCommand, GetBucketVersioningCommand, ListObjectVersionsCommand } from '@aws-sdk/client-s3'
import type { S3Place } from './client.ts'
import { fromS3, isAbsent, isUnknownCall } from './errors.ts'

/** True when the bucket keeps versions, or has kept them until it was told to stop: the old ones are still there. */
export async function keepsVersions(place: S3Place, signal?: AbortSignal): Promise<boolean> {
  try {
    const answer = await place.client.send(new GetBucketVersioningCommand({ Bucket: place.bucket }), { abortSignal: signal })
    return answer.Status !== undefined
  } catch (error) {
    signal?.throwIfAborted()
    if (isUnknownCall(error)) return false
    throw fromS3(error, `the versioning of bucket ${place.bucket}`)
  }
}

/**
 * Removes an object, with versions every one of them and every delete marker: a key that was only marked as deleted
 * could still be opened by whoever asks for its version.
 */
export async function takeAway(place: S3Place, key: string, versioned: boolean, signal?: AbortSignal): Promise<void> {
  try {
    if (!versioned) return await removeOne(place, key, undefined, signal)
    for await (const version of versionsOf(place, key, signal)) await removeOne(place, key, version, signal)
  } catch (error) {
    signal?.throwIfAborted()
    throw fromS3(error, `the removal of object ${key} in bucket ${place.bucket}`)
  }
}

async function removeOne(place: S3Place, key: string, version: string | undefined, signal?: AbortSignal): Promise<void> {
  const command = new DeleteObjectCommand({ Bucket: place.bucket, Key: place.prefix + key, VersionId: version })
  try {
    await place.client.send(command, { abortSignal: signal })
  } catch (error) {
    if (!isAbsent(error)) throw error
  }
}

async function* versionsOf(place: S3Place, key: string, signal?: AbortSignal): AsyncGenerator<string> {
  const full = place.prefix + key
  let marker: { KeyMarker?: string; VersionIdMarker?: string } = {}
  for (;;) {
    const command = new ListObjectVersionsCommand({ Bucket: place.bucket, Prefix: full, ...marker })
    const page = await place.client.send(command, { abortSignal: signal })
    for (const { Key, VersionId } of [...(page.Versions ?? []), ...(page.DeleteMarkers ?? [])]) {
      if (Key === full && VersionId) yield VersionId
    }
    // the prefix also finds longer keys, which come after all versions of this one
    if (!page.IsTruncated || !page.NextKeyMarker || page.NextKeyMarker > full) return
    if (page.NextKeyMarker === marker.KeyMarker && page.NextVersionIdMarker === marker.VersionIdMarker) return
    marker = { KeyMarker: page.NextKeyMarker, VersionIdMarker: page.NextVersionIdMarker }
  }
}
