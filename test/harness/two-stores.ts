import { beforeAll } from 'vitest'
import { TestHoldfast } from './holdfast.ts'
import { type S3Server, standingS3 } from './s3.ts'
import { standing } from './standing.ts'

export type StoreKind = 'local' | 's3'

export interface TwoStores {
  readonly holdfast: TestHoldfast
  readonly s3: S3Server | null
  /** The bucket as `recover --store` takes it. */
  bucketUrl(): string
}

/**
 * A Holdfast with a local folder and, where this machine can have a real S3 server, a bucket, for the tests of a file or a `describe`
 * to stand on. Sources whose name ends in `-s3` are kept in the bucket, all others in the folder: a policy says so.
 */
export async function standingOnTwoStores(): Promise<TwoStores> {
  const s3 = await standingS3()
  let bucket = ''
  const holdfast = standing('Holdfast', async () => {
    if (!s3) return TestHoldfast.start()
    // the control plane finds its credentials the way AWS's own programs do
    Object.assign(process.env, s3.env)
    bucket = await s3.makeBucket()
    const place = { bucket, prefix: 'holdfast', endpoint: s3.endpoint, region: s3.region, force_path_style: true }
    return TestHoldfast.start({ moreTargets: { bucket: { kind: 's3', ...place } } })
  })
  beforeAll(async () => {
    if (!s3) return
    await holdfast.operator.ask('PUT', '/api/v1/fleet', {
      policies: { bucket: { select: { sources: ['*/*-s3'] }, targets: ['bucket'] } },
    })
  })
  const bucketUrl = () => {
    if (!s3) throw new Error('there is no bucket without an S3 server')
    return `s3://${bucket}/holdfast?endpoint=${s3.endpoint}&region=${s3.region}&force_path_style=true`
  }
  return { holdfast, s3, bucketUrl }
}
