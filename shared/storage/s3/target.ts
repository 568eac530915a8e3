import type { Readable } from 'node:stream'
import type { Clock } from '../../clock.ts'
import type { S3Config } from '../config.ts'
import { requireKey, requirePrefix } from '../key.ts'
import { requireSignable } from '../put-rules.ts'
import { requireRange } from '../range.ts'
import type { ListedObject, ObjectHead, SignedAddress, StorageTarget, TargetFacts } from '../target.ts'
import { signS3Get, signS3Put } from './address.ts'
import { createClient, type S3Credentials, type S3Place } from './client.ts'
import { fromS3 } from './errors.ts'
import { probeS3 } from './probe.ts'
import { getObject, headObject, listObjects, openBody } from './read.ts'
import { keepsVersions, takeAway } from './take-away.ts'
import { putObject, requireBody } from './write.ts'

export type { S3Credentials }

export interface S3Options {
  readonly name: string
  readonly clock: Clock
  /** What an earlier probe found out; until then nothing is promised. */
  readonly facts?: TargetFacts
  readonly credentials?: S3Credentials
}

const UNKNOWN: TargetFacts = {
  conditionalPut: false,
  checksumOnPut: false,
  checksumOnHead: false,
  versioned: false,
  objectLock: false,
  region: null,
}

const VERSIONING_KNOWN_MS = 60_000

export async function openS3(config: S3Config, options: S3Options): Promise<StorageTarget> {
  return new S3Target(config, options)
}

/** Objects in a bucket of Amazon S3 or a compatible service. Asks nothing of it before the first call. */
class S3Target implements StorageTarget {
  readonly name: string
  readonly kind = 's3'
  #facts: TargetFacts
  readonly #place: S3Place
  #versioned: { readonly answer: boolean; readonly atMs: number } | null = null

  constructor(config: S3Config, options: S3Options) {
    this.name = options.name
    this.#facts = options.facts ?? UNKNOWN
    this.#place = {
      client: createClient(config, options.credentials),
      bucket: config.bucket,
      prefix: config.prefix ? `${config.prefix}/` : '',
      storageClass: config.storage_class,
      clock: options.clock,
    }
  }

  get facts(): TargetFacts {
    return this.#facts
  }

  async signPut(key: string, object: { size: number; sha256: Buffer }): Promise<SignedAddress> {
    requireSignable(requireKey(key), object)
    return this.#sign(key, () => signS3Put(this.#place, key, object))
  }

  async signGet(key: string): Promise<SignedAddress> {
    requireKey(key)
    return this.#sign(key, () => signS3Get(this.#place, key))
  }

  async #sign(key: string, sign: () => Promise<SignedAddress>): Promise<SignedAddress> {
    try {
      return await sign()
    } catch (error) {
      throw fromS3(error, `an address of object ${key} in bucket ${this.#place.bucket}`)
    }
  }

  async put(
    key: string,
    body: Buffer,
    options: { sha256?: Buffer; overwrite?: boolean; lockUntil?: Date; signal?: AbortSignal } = {},
  ): Promise<void> {
    const { overwrite = false, signal } = options
    // a bucket without locks refuses the whole put
    const lockUntil = this.#facts.objectLock ? options.lockUntil : undefined
    signal?.throwIfAborted()
    const sha256 = requireBody(requireKey(key), body, options.sha256)
    await putObject(this.#place, key, body, { sha256, overwrite, lockUntil, signal })
  }

  async get(key: string, options: { offset?: number; length?: number; signal?: AbortSignal } = {}): Promise<Buffer> {
    const range = requireRange(requireKey(key), options)
    options.signal?.throwIfAborted()
    return getObject(this.#place, key, range, options.signal)
  }

  async getStream(key: string, options: { signal?: AbortSignal } = {}): Promise<Readable> {
    requireKey(key)
    options.signal?.throwIfAborted()
    try {
      return (await openBody(this.#place, key, null, options.signal)).body
    } catch (error) {
      options.signal?.throwIfAborted()
      throw fromS3(error, `object ${key} in bucket ${this.#place.bucket}`)
    }
  }

  async head(key: string, signal?: AbortSignal): Promise<ObjectHead | null> {
    requireKey(key)
    signal?.throwIfAborted()
    return headObject(this.#place, key, signal)
  }

  list(prefix: string, signal?: AbortSignal): AsyncGenerator<ListedObject> {
    return listObjects(this.#place, requirePrefix(prefix), signal)
  }

  async remove(key: string, signal?: AbortSignal): Promise<void> {
    requireKey(key)
    signal?.throwIfAborted()
    const versioned = await this.#keepsVersions(signal)
    await takeAway(this.#place, key, versioned, signal)
  }

  /** A bucket that ever kept versions goes on having them; one that keeps none may be told to at any time. */
  async #keepsVersions(signal?: AbortSignal): Promise<boolean> {
    const known = this.#versioned
    const nowMs = this.#place.clock.monotonicMs()
    if (known && (known.answer || nowMs - known.atMs < VERSIONING_KNOWN_MS)) return known.answer
    const answer = await keepsVersions(this.#place, signal)
    this.#versioned = { answer, atMs: nowMs }
    return answer
  }

  async probe(signal?: AbortSignal): Promise<TargetFacts> {
    this.#facts = await probeS3(this.#place, this.name, signal)
    return this.#facts
  }

  async close(): Promise<void> {
    this.#place.client.destroy()
  }
}
