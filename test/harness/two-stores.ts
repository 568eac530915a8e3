import { type HoldfastOptions, TestHoldfast } from './holdfast.ts'
import { type S3Server, s3Server } from './s3.ts'

export type StoreKind = 'local' | 's3'

export interface TwoStores extends AsyncDisposable {
  readonly holdfast: TestHoldfast
  readonly s3: S3Server | null
  /** The bucket as `recover --store` takes it. */
  readonly bucketUrl: string | null
}

/**
 * A Holdfast with a local folder and, where this machine can have a real S3 server, a bucket. Sources whose name ends in `-s3`
 * are kept in the bucket, all others in the folder: a policy says so.
 */
export async function startOnTwoStores(options: Omit<HoldfastOptions, 'targets' | 'moreTargets'> = {}): Promise<TwoStores> {
  const s3 = await s3Server()
  if (!s3) {
    const holdfast = await TestHoldfast.start(options)
    return { holdfast, s3, bucketUrl: null, [Symbol.asyncDispose]: () => holdfast[Symbol.asyncDispose]() }
  }
  // the control plane finds its credentials the way AWS's own programs do
  Object.assign(process.env, s3.env)
  const bucket = await s3.makeBucket()
  const place = { bucket, prefix: 'holdfast', endpoint: s3.endpoint, region: s3.region, force_path_style: true }
  const holdfast = await TestHoldfast.start({ ...options, moreTargets: { bucket: { kind: 's3', ...place } } })
  await holdfast.operator.ask('PUT', '/api/v1/fleet', {
    policies: { bucket: { select: { sources: ['*/*-s3'] }, targets: ['bucket'] } },
  })
  return {
    holdfast,
    s3,
    bucketUrl: `s3://${bucket}/holdfast?endpoint=${s3.endpoint}&region=${s3.region}&force_path_style=true`,
    [Symbol.asyncDispose]: async () => {
      await holdfast[Symbol.asyncDispose]()
      await s3.stop()
    },
  }
}
