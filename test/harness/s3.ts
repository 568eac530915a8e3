import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { CreateBucketCommand, PutBucketVersioningCommand, S3Client } from '@aws-sdk/client-s3'
import { randomBase32 } from '../../shared/ids.ts'
import { Secret } from '../../shared/secret.ts'
import { available } from './cache.ts'
import { throwAwayFolder } from './folders.ts'
import { goModule, goModulePresent } from './go.ts'
import { freePort } from './ports.ts'
import { listens, startProcess } from './processes.ts'
import { standing } from './standing.ts'

const VERSITYGW = { module: 'github.com/versity/versitygw', version: 'v1.8.0', package: './cmd/versitygw' } as const

export interface S3Server extends AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly endpoint: string
  readonly port: number
  readonly region: string
  /** As `openTarget` takes them. */
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: Secret }
  /** For a program that finds its credentials, region and endpoint by AWS's own variables. */
  readonly env: Readonly<Record<string, string>>
  /** Makes a bucket and gives its name. */
  makeBucket(options?: { versioned?: boolean; objectLock?: boolean }): Promise<string>
  stop(): Promise<void>
}

/** A real S3 server (versitygw on a folder), or null where it cannot be had. */
export async function s3Server(): Promise<S3Server | null> {
  const program = await s3Program()
  return program === null ? null : startVersitygw(program)
}

/** One that the tests of a file or a `describe` stand on. Null where it cannot be had. */
export async function standingS3(): Promise<S3Server | null> {
  const program = await s3Program()
  return program === null ? null : standing('the S3 server', () => startVersitygw(program))
}

const s3Program = () =>
  available(
    'versitygw 1.8.0 (S3)',
    'build',
    () => goModulePresent(VERSITYGW),
    () => goModule(VERSITYGW),
  )

async function startVersitygw(program: string): Promise<S3Server> {
  const folder = await throwAwayFolder()
  for (const name of ['objects', 'versions', 'iam']) await mkdir(path.join(folder.path, name))
  const port = await freePort()
  const [accessKeyId, secretAccessKey, region] = ['holdfast-test', randomBase32(32), 'us-east-1']
  const args = ['--port', `127.0.0.1:${port}`, '--region', region, '--quiet', 'posix']
  const server = await startProcess(
    program,
    [...args, '--versioning-dir', path.join(folder.path, 'versions'), path.join(folder.path, 'objects')],
    {
      env: { ROOT_ACCESS_KEY: accessKeyId, ROOT_SECRET_KEY: secretAccessKey },
      ready: () => listens(port),
    },
  )
  const endpoint = `http://127.0.0.1:${port}`
  const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } })
  const stop = async () => {
    client.destroy()
    await server.stop()
    await folder.remove()
  }
  return {
    endpoint,
    port,
    region,
    credentials: { accessKeyId, secretAccessKey: new Secret(secretAccessKey) },
    env: {
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
      AWS_REGION: region,
      AWS_ENDPOINT_URL_S3: endpoint,
    },
    makeBucket: async ({ versioned = false, objectLock = false } = {}) => {
      const Bucket = `test-${randomBase32(12)}`
      await client.send(new CreateBucketCommand({ Bucket, ObjectLockEnabledForBucket: objectLock }))
      if (versioned) await client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }))
      return Bucket
    },
    stop,
    [Symbol.asyncDispose]: stop,
  }
}
