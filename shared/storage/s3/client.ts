import { S3Client } from '@aws-sdk/client-s3'
import type { Clock } from '../../clock.ts'
import { trustedRoots } from '../../roots.ts'
import type { Secret } from '../../secret.ts'
import type { S3Config } from '../config.ts'

/** Given instead of the usual AWS chain (environment, profile, container, instance). */
export interface S3Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: Secret
  readonly sessionToken?: Secret
  readonly expiration?: Date
}

/** Where a target's objects lie in S3, and what is needed to get there. */
export interface S3Place {
  readonly client: S3Client
  readonly bucket: string
  /** Empty, or ends with "/". */
  readonly prefix: string
  readonly storageClass: string | undefined
  readonly clock: Clock
}

export function createClient(config: S3Config, credentials?: S3Credentials): S3Client {
  return new S3Client({
    ...(config.region ? { region: config.region } : {}),
    ...(config.endpoint ? { endpoint: config.endpoint } : {}),
    ...(config.force_path_style === undefined ? {} : { forcePathStyle: config.force_path_style }),
    ...(credentials ? { credentials: reveal(credentials) } : {}),
    // with the default the SDK puts a CRC32 of its own into addresses and requests; ours is SHA-256 and always given
    requestChecksumCalculation: 'WHEN_REQUIRED',
    // or it would put x-amz-checksum-mode into addresses for GET
    responseChecksumValidation: 'WHEN_REQUIRED',
    maxAttempts: 4,
    requestHandler: {
      connectionTimeout: 10_000,
      socketTimeout: 60_000,
      httpsAgent: { maxSockets: 64, minVersion: 'TLSv1.2', ca: [...trustedRoots()] },
    },
  })
}

function reveal(credentials: S3Credentials) {
  const { accessKeyId, secretAccessKey, sessionToken, expiration } = credentials
  return { accessKeyId, secretAccessKey: secretAccessKey.reveal(), sessionToken: sessionToken?.reveal(), expiration }
}
