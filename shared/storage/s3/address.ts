import { GetObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import { HoldfastError } from '../../errors.ts'
import { MAX_ADDRESS_SECONDS, type SignedAddress } from '../target.ts'
import type { S3Place } from './client.ts'
import { putInput } from './write.ts'

/** An address that outlives its credentials by a moment would be refused in the middle of its use. */
const MARGIN_SECONDS = 5

/**
 * The presigner moves x-amz-* headers into the query, where a service takes the checksum from the address instead of from the
 * body's sender or ignores it (tried on versitygw and MinIO). Named in both options they stay headers and are signed.
 */
export async function signS3Put(place: S3Place, key: string, object: { size: number; sha256: Buffer }): Promise<SignedAddress> {
  const headers: Record<string, string> = {
    'content-length': String(object.size),
    'if-none-match': '*',
    'x-amz-checksum-sha256': object.sha256.toString('base64'),
    ...(place.storageClass ? { 'x-amz-storage-class': place.storageClass } : {}),
  }
  const validSeconds = await addressSeconds(place)
  const url = await getSignedUrl(place.client, new PutObjectCommand(putInput(place, key, object, false)), {
    expiresIn: validSeconds,
    unhoistableHeaders: new Set(Object.keys(headers)),
    signableHeaders: new Set(['host', ...Object.keys(headers)]),
  })
  return { method: 'PUT', url, headers, validSeconds }
}

export async function signS3Get(place: S3Place, key: string): Promise<SignedAddress> {
  const validSeconds = await addressSeconds(place)
  const command = new GetObjectCommand({ Bucket: place.bucket, Key: place.prefix + key })
  return { method: 'GET', url: await getSignedUrl(place.client, command, { expiresIn: validSeconds }), headers: {}, validSeconds }
}

/** The shorter of the longest life of an address and what is left of the signer's own credentials. */
async function addressSeconds(place: S3Place): Promise<number> {
  const { expiration } = await place.client.config.credentials()
  if (!expiration) return MAX_ADDRESS_SECONDS
  const left = Math.floor((expiration.getTime() - place.clock.now().getTime()) / 1000) - MARGIN_SECONDS
  if (left > 0) return Math.min(MAX_ADDRESS_SECONDS, left)
  throw new HoldfastError('target_unreachable', `the credentials for bucket ${place.bucket} have expired`, {
    hint: 'Renew them; instance and container roles do so by themselves once their service answers.',
  })
}
