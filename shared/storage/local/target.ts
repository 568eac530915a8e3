import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, lstat, mkdir, open, realpath, stat } from 'node:fs/promises'
import path from 'node:path'
import type { Readable } from 'node:stream'
import type { Clock } from '../../clock.ts'
import { HoldfastError } from '../../errors.ts'
import { requireKey, requirePrefix } from '../key.ts'
import { objectMissing, sameOrConflict, tooLargeToHold, tooShort } from '../object-errors.ts'
import { requireSignable } from '../put-rules.ts'
import { requireRange } from '../range.ts'
import {
  type ListedObject,
  MAX_OBJECT_BYTES,
  type ObjectHead,
  type SignedAddress,
  type StorageTarget,
  type TargetFacts,
} from '../target.ts'
import { type LocalSigner, signLocalAddress } from './address.ts'
import { checksumOf, forgetChecksum, hashOf, noteChecksum } from './checksums.ts'
import { fromSystem, notOurs, systemCode } from './errors.ts'
import type { ObjectFile } from './object-file.ts'
import { OpenObject } from './open-object.ts'
import { locate } from './paths.ts'
import { type Placement, place } from './place.ts'
import { probeLocal } from './probe.ts'
import { sweepLeftovers, takeAway } from './take-away.ts'
import { walk } from './walk.ts'

export interface LocalOptions {
  readonly name: string
  readonly clock: Clock
  /** Without it the target signs no addresses. */
  readonly signer?: LocalSigner
  /** Makes the folder where it is missing. */
  readonly create: boolean
}

export async function openLocal(folder: string, options: LocalOptions): Promise<LocalTarget> {
  const absolute = path.resolve(folder)
  try {
    if (options.create) await mkdir(absolute, { recursive: true, mode: 0o700 })
    if (!(await stat(absolute)).isDirectory()) throw noFolder(absolute)
    const root = await realpath(absolute)
    if (options.create) await sweepLeftovers(root, options.clock)
    return new LocalTarget(root, options)
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') throw noFolder(absolute)
    throw fromSystem(error, absolute)
  }
}

function noFolder(folder: string): HoldfastError {
  return new HoldfastError('target_refused', `storage folder ${folder} is not there`, {
    hint: 'Mount it or correct the path; it is not made here, so that an unmounted disk is noticed.',
  })
}

/** Objects as files: what lies below the folder is the repository as FORMAT.md lays it out, and `~tmp` and `~sums` besides. */
export class LocalTarget implements StorageTarget {
  readonly name: string
  readonly kind = 'local'
  /** What this code does itself; `probe` finds out whether the file system lets it. */
  readonly facts: TargetFacts = {
    conditionalPut: true,
    checksumOnPut: true,
    checksumOnHead: true,
    versioned: false,
    objectLock: false,
    region: null,
  }
  readonly #root: string
  readonly #clock: Clock
  readonly #signer: LocalSigner | undefined

  constructor(root: string, options: LocalOptions) {
    this.name = options.name
    this.#root = root
    this.#clock = options.clock
    this.#signer = options.signer
  }

  async signPut(key: string, object: { size: number; sha256: Buffer }): Promise<SignedAddress> {
    requireSignable(requireKey(key), object)
    return signLocalAddress(this.name, key, { method: 'PUT', ...object }, this.#requireSigner())
  }

  async signGet(key: string): Promise<SignedAddress> {
    return signLocalAddress(this.name, requireKey(key), { method: 'GET' }, this.#requireSigner())
  }

  #requireSigner(): LocalSigner {
    if (this.#signer) return this.#signer
    throw new HoldfastError(
      'not_supported',
      `storage target ${this.name} is a folder that nobody serves, so it has no addresses`,
      {
        hint: 'Use it from this host alone, or let a control plane serve it.',
      },
    )
  }

  async put(
    key: string,
    body: Buffer,
    options: { sha256?: Buffer; overwrite?: boolean; signal?: AbortSignal } = {},
  ): Promise<void> {
    const { overwrite = false, signal } = options
    const sha256 = options.sha256 ?? createHash('sha256').update(body).digest()
    await this.putStream(key, only(body), { size: body.length, sha256, overwrite, signal })
  }

  /** `put` of a body that comes in pieces, checked while it is written. "same": it was there already. */
  async putStream(key: string, body: AsyncIterable<Buffer>, to: Placement): Promise<'stored' | 'same'> {
    requireKey(key)
    to.signal?.throwIfAborted()
    return this.#run(key, async () => {
      await locate(this.#root, key)
      if (to.overwrite) await forgetChecksum(this.#root, key)
      const mtimeNs = await place(this.#root, key, body, to)
      if (mtimeNs !== 'exists') {
        await noteChecksum(this.#root, key, to.sha256, to.size, mtimeNs)
        return 'stored'
      }
      // read, not believed: a note would answer even where the disk has lost the bytes
      const there = await this.#open(key)
      try {
        sameOrConflict(key, to, { size: (await there.stat()).size, sha256: await hashOf(there, to.signal) })
        return 'same'
      } finally {
        await there.close()
      }
    })
  }

  async get(key: string, options: { offset?: number; length?: number; signal?: AbortSignal } = {}): Promise<Buffer> {
    const range = requireRange(requireKey(key), options)
    options.signal?.throwIfAborted()
    return this.#run(key, async () => {
      const object = await this.#open(key)
      try {
        const { size } = await object.stat()
        const offset = range?.offset ?? 0
        const length = range?.length ?? size - offset
        if (range && (offset >= size || offset + length > size)) throw tooShort(key, size, range)
        if (length > MAX_OBJECT_BYTES) throw tooLargeToHold(key, size)
        const bytes = Buffer.allocUnsafe(length)
        for (let done = 0; done < length; ) {
          options.signal?.throwIfAborted()
          const { bytesRead } = await object.read(bytes, done, length - done, offset + done)
          if (bytesRead === 0) throw tooShort(key, null, { offset, length })
          done += bytesRead
        }
        return bytes
      } finally {
        await object.close()
      }
    })
  }

  async getStream(key: string, { signal }: { signal?: AbortSignal } = {}): Promise<Readable> {
    requireKey(key)
    signal?.throwIfAborted()
    const object = await this.#run(key, () => this.#open(key))
    return object.createReadStream({ signal, autoClose: true })
  }

  /** For who reads it in pieces. */
  async open(key: string): Promise<OpenObject> {
    requireKey(key)
    return this.#run(key, async () => {
      const file = await this.#open(key)
      try {
        return new OpenObject(key, file, (await file.stat()).size)
      } catch (error) {
        await file.close()
        throw error
      }
    })
  }

  /** For who reads it on this host by itself. */
  async file(key: string): Promise<ObjectFile> {
    requireKey(key)
    return this.#run(key, async () => {
      const object = await this.#open(key)
      try {
        const { dev, ino } = await object.stat({ bigint: true })
        return { path: path.join(this.#root, key), device: String(dev), inode: String(ino) }
      } finally {
        await object.close()
      }
    })
  }

  /** Size and time without a checksum: what a listing says, and never a read of the object. */
  async size(key: string): Promise<number | null> {
    requireKey(key)
    return this.#run(key, async () => {
      const found = await absentIsNull(lstat(await locate(this.#root, key)))
      return found?.isFile() ? found.size : null
    })
  }

  async head(key: string, signal?: AbortSignal): Promise<ObjectHead | null> {
    requireKey(key)
    signal?.throwIfAborted()
    return this.#run(key, async () => {
      const object = await absentIsNull(this.#open(key))
      if (!object) return null
      try {
        const { size, mtime } = await object.stat()
        return { size, sha256: await checksumOf(this.#root, key, object, signal), modified: mtime }
      } finally {
        await object.close()
      }
    })
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncGenerator<ListedObject> {
    requirePrefix(prefix)
    try {
      await locate(this.#root, `${prefix}x`)
      yield* walk(this.#root, prefix, signal)
    } catch (error) {
      signal?.throwIfAborted()
      throw fromSystem(error, prefix === '' ? 'the listing' : prefix)
    }
  }

  async remove(key: string, signal?: AbortSignal): Promise<void> {
    requireKey(key)
    signal?.throwIfAborted()
    await this.#run(key, () => takeAway(this.#root, key))
  }

  async probe(signal?: AbortSignal): Promise<TargetFacts> {
    await probeLocal(this, signal)
    return this.facts
  }

  async close(): Promise<void> {}

  async #open(key: string): Promise<FileHandle> {
    // non-blocking: opening a named pipe that someone placed there would wait for ever
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
    const object = await open(await locate(this.#root, key), flags)
    const found = await object.stat()
    if (found.isFile()) return object
    await object.close()
    throw found.isDirectory() ? objectMissing(`object ${key}`) : notOurs(key)
  }

  async #run<T>(key: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      throw fromSystem(error, key)
    }
  }
}

async function* only(body: Buffer): AsyncGenerator<Buffer> {
  yield body
}

async function absentIsNull<T>(reading: Promise<T>): Promise<T | null> {
  try {
    return await reading
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ENOENT' || code === 'ENOTDIR' || (error instanceof HoldfastError && error.code === 'object_missing'))
      return null
    throw error
  }
}
