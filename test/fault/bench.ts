import { createHash } from 'node:crypto'
import { lstat, mkdir, readdir, readFile, readlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { DeleteObjectCommand, GetObjectCommand, PutObjectCommand, paginateListObjectsV2, S3Client } from '@aws-sdk/client-s3'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { type FaultProxy, type SeenRequest, startFaultProxy } from '../harness/fault-proxy.ts'
import { type HoldfastOptions, TestHoldfast } from '../harness/holdfast.ts'
import { type S3Server, s3Server } from '../harness/s3.ts'
import { ShiftedClock } from '../harness/shifted-clock.ts'
import { waitFor } from '../harness/wait.ts'

/** An agent that has a command says so at once. */
const UNHEARD_MS = 5000
/** Longer than any lease, that of a command which was given out by a clock ahead included. */
const LOST_MS = 400_000
/** Longer than the waits before the second and the third attempt. */
const RETRY_MS = 60_000

/** A Holdfast with short leases whose only target is a real S3 server behind a fault proxy, and whose clock a test moves. */
export class FaultBench implements AsyncDisposable {
  readonly holdfast: TestHoldfast
  readonly clock: ShiftedClock
  readonly proxy: FaultProxy
  readonly #s3: S3Server
  readonly #bucket: string
  readonly #credentials: Readonly<Record<string, string | undefined>>

  private constructor(parts: {
    holdfast: TestHoldfast
    clock: ShiftedClock
    proxy: FaultProxy
    s3: S3Server
    bucket: string
    credentials: Readonly<Record<string, string | undefined>>
  }) {
    this.holdfast = parts.holdfast
    this.clock = parts.clock
    this.proxy = parts.proxy
    this.#s3 = parts.s3
    this.#bucket = parts.bucket
    this.#credentials = parts.credentials
  }

  /** Null where the S3 server cannot be had. */
  static async start(options: HoldfastOptions = {}): Promise<FaultBench | null> {
    const s3 = await s3Server()
    if (!s3) return null
    const bucket = await s3.makeBucket()
    const proxy = await startFaultProxy({ upstream: s3.endpoint })
    const clock = new ShiftedClock()
    const names = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_REGION']
    const credentials = Object.fromEntries(names.map((name) => [name, process.env[name]]))
    for (const name of names) process.env[name] = s3.env[name]
    const primary = { kind: 's3', bucket, region: s3.region, endpoint: proxy.origin, force_path_style: true } as const
    const holdfast = await TestHoldfast.start({
      targets: { primary },
      clock,
      // an agent that was cut off is back well within the lease, on a machine at a quarter of its speed too
      fleetSettings: { leaseSeconds: 6, heartbeatSeconds: 1, pollMs: 500 },
      ...options,
    })
    return new FaultBench({ holdfast, clock, proxy, s3, bucket, credentials })
  }

  /** What AWS's SDK of a control plane in a process of its own has to find. */
  get awsVariables(): Readonly<Record<string, string>> {
    const { AWS_ACCESS_KEY_ID = '', AWS_SECRET_ACCESS_KEY = '', AWS_REGION = '' } = this.#s3.env
    return { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION }
  }

  /** The next request that fits is held: whoever waits for it is in the middle of its work. Requests after it pass. */
  catchOne(fits: (request: SeenRequest) => boolean): { caught: Promise<void>; release: () => void } {
    const gate = Promise.withResolvers<void>()
    const arrived = Promise.withResolvers<void>()
    let taken = false
    this.proxy.script = (request) => {
      if (taken || !fits(request)) return { kind: 'pass' }
      taken = true
      arrived.resolve()
      return { kind: 'hold', release: gate.promise }
    }
    return { caught: arrived.promise, release: gate.resolve }
  }

  look(id: string): Promise<JobView> {
    return this.holdfast.job(id)
  }

  /** The job once it is over. Its waits between attempts, and for a command that was lost with a stream, are left out by moving the clock. */
  async over(job: JobView, timeoutMs = 120_000): Promise<JobView> {
    const isOver = ({ status }: JobView) => ['succeeded', 'failed', 'cancelled'].includes(status)
    const end = performance.now() + timeoutMs
    for (;;) {
      let last: JobView | null = null
      let dispatchedMs = Number.POSITIVE_INFINITY
      const now = await waitFor(
        `the ${job.kind} job ${job.id} to end or wait`,
        async () => {
          const seen = await this.look(job.id)
          last = seen
          const nowMs = performance.now()
          dispatchedMs = seen.status === 'dispatched' ? Math.min(dispatchedMs, nowMs) : Number.POSITIVE_INFINITY
          const waits = (seen.status === 'queued' && seen.attempt > 0) || nowMs - dispatchedMs > UNHEARD_MS
          return (isOver(seen) || waits) && seen
        },
        { timeoutMs: Math.max(1, end - performance.now()), everyMs: 50 },
      ).catch((error: unknown) => {
        throw new Error(`${job.kind} ${job.id} does not end: ${JSON.stringify(last)}`, { cause: error })
      })
      if (isOver(now)) return now
      await this.#goOn(now)
    }
  }

  /** A lost command is queued again by the clock that ended its lease, so that its wait ends by that clock too. */
  async #goOn(seen: JobView): Promise<void> {
    if (seen.status === 'dispatched') return this.clock.ahead(LOST_MS, async () => this.#goOn(await this.#next(seen)))
    if (seen.status === 'queued') await this.clock.ahead(RETRY_MS, () => this.#next(seen))
  }

  /** The job once it is not what it was. */
  #next(seen: JobView): Promise<JobView> {
    return waitFor(`${JSON.stringify(seen)} to go on`, async () => {
      const now = await this.look(seen.id)
      return (now.attempt > seen.attempt || now.status !== seen.status) && now
    })
  }

  async done(job: JobView, timeoutMs?: number): Promise<JobView> {
    const over = await this.over(job, timeoutMs)
    if (over.status === 'succeeded') return over
    throw new Error(`the ${over.kind} ${over.id} is ${over.status}: ${JSON.stringify(over.error)}`)
  }

  /** Reasons why the attempts of a job that is over ended, as an operator sees them. */
  async failures(job: JobView): Promise<string[]> {
    const logs = await this.holdfast.server.operations.jobEvents(this.holdfast.server.operator, job.id, {
      after: 0,
      signal: AbortSignal.timeout(20_000),
    })
    const codes: string[] = []
    for await (const event of logs) {
      const error = event.type === 'state' ? (event.data.error as { code: string } | null) : null
      if (error) codes.push(error.code)
    }
    return codes
  }

  /** Bytes of each body that the store was sent for objects whose key fits. */
  sent(fits: RegExp): number[] {
    return this.proxy.seen
      .filter(({ method, url }) => method === 'PUT' && fits.test(url))
      .map(({ headers }) => Number(headers['content-length']))
  }

  /** Keys in the bucket, past the proxy. */
  keys(prefix = ''): Promise<string[]> {
    return this.#inBucket(async (client) => {
      const keys: string[] = []
      for await (const page of paginateListObjectsV2({ client }, { Bucket: this.#bucket, Prefix: prefix })) {
        for (const { Key = '' } of page.Contents ?? []) keys.push(Key)
      }
      return keys
    })
  }

  /** Past the proxy and past the product. */
  async removeKeys(keys: readonly string[]): Promise<void> {
    await this.#inBucket((client) =>
      Promise.all(keys.map((Key) => client.send(new DeleteObjectCommand({ Bucket: this.#bucket, Key })))),
    )
  }

  /** One bit of an object is another one from now on, past the proxy. */
  async flip(key: string): Promise<void> {
    await this.#inBucket(async (client) => {
      const there = await client.send(new GetObjectCommand({ Bucket: this.#bucket, Key: key }))
      const body = await there.Body?.transformToByteArray()
      if (!body) throw new Error(`${key} has no body`)
      const at = body.length >> 1
      body[at] = (body[at] ?? 0) ^ 1
      await client.send(new PutObjectCommand({ Bucket: this.#bucket, Key: key, Body: body }))
    })
  }

  async #inBucket<T>(work: (client: S3Client) => Promise<T>): Promise<T> {
    const { accessKeyId, secretAccessKey } = this.#s3.credentials
    const client = new S3Client({
      endpoint: this.#s3.endpoint,
      region: this.#s3.region,
      forcePathStyle: true,
      credentials: { accessKeyId, secretAccessKey: secretAccessKey.reveal() },
    })
    try {
      return await work(client)
    } finally {
      client.destroy()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.proxy.script = () => ({ kind: 'pass' })
    await this.holdfast[Symbol.asyncDispose]()
    await this.proxy.stop()
    await this.#s3.stop()
    for (const [name, value] of Object.entries(this.#credentials)) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
  }
}

/** Files whose content `random` decides; about `bytes` in all. */
export async function writeTree(folder: string, random: () => number, bytes: number, files = 8): Promise<void> {
  for (let n = 0; n < files; n++) {
    const sub = path.join(folder, n % 2 ? 'sub' : '.')
    await mkdir(sub, { recursive: true })
    await writeFile(path.join(sub, `file-${n}`), randomBytes(random, Math.ceil((bytes / files) * (0.5 + random()))))
  }
}

/** Does not compress, and is the same for the same numbers. */
export function randomBytes(random: () => number, length: number): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4))
  for (let n = 0; n < words.length; n++) words[n] = random() * 2 ** 32
  return Buffer.from(words.buffer, 0, length)
}

/** One hash of names, kinds, modes, times and contents of all that is in a folder. */
export async function treeHash(folder: string): Promise<string> {
  const hash = createHash('sha256')
  for (const name of (await readdir(folder, { recursive: true })).sort()) {
    const file = path.join(folder, name)
    const stat = await lstat(file)
    hash.update(JSON.stringify([name, stat.mode, stat.isDirectory() ? 0 : stat.mtimeMs]))
    if (stat.isFile()) hash.update(await readFile(file))
    if (stat.isSymbolicLink()) hash.update(await readlink(file))
  }
  return hash.digest('hex')
}

const byAgent = ({ url }: SeenRequest) => /[?&]X-Amz-Signature=/i.test(url)
/** The agent begins to store what describes the backup: every pack is stored and confirmed. */
export const describesBackup = (request: SeenRequest): boolean =>
  request.method === 'PUT' && byAgent(request) && /\/(contents|index)\/\d/.test(request.url)
export const storesPack = (request: SeenRequest): boolean => request.method === 'PUT' && /\/packs\/\d/.test(request.url)
export const readsPack = (request: SeenRequest): boolean =>
  request.method === 'GET' && byAgent(request) && /\/packs\/\d/.test(request.url)
/** Bytes that are asked for of a pack. */
export function rangeOf(request: SeenRequest): number {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? []
  return readsPack(request) && last !== undefined ? Number(last) - Number(first) + 1 : 0
}
