import { cp, mkdir, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { openStore } from '../../shared/storage/registry.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { type HoldfastOptions, TestHoldfast } from './holdfast.ts'
import { standingS3 } from './s3.ts'
import { standing } from './standing.ts'
import type { StoreKind } from './two-stores.ts'

/** A target past the product: what somebody can do who may write there. */
export interface RawStore {
  /** As `recover --store` takes it. */
  readonly url: string
  keys(prefix: string): Promise<string[]>
  read(key: string): Promise<Buffer>
  /** Also in the place of what is there. */
  write(key: string, bytes: Buffer): Promise<void>
  /** All that lies below. */
  removeAll(prefix: string): Promise<void>
  /** Gives back what lies there now, and takes away the rest. */
  keep(): Promise<() => Promise<void>>
  close(): Promise<void>
}

export interface OneStore {
  readonly holdfast: TestHoldfast
  readonly store: RawStore
}

/** A Holdfast whose only target is a folder or a bucket of a real S3 server. Null where that cannot be had. */
export async function standingOnOneStore(kind: StoreKind, options: HoldfastOptions = {}): Promise<OneStore | null> {
  const s3 = await standingS3On(kind)
  if (s3 === null) return null
  return standing(`Holdfast on ${kind}`, async () => {
    if (s3 === 'folder') {
      const holdfast = await TestHoldfast.start(options)
      return started(holdfast, inFolder(holdfast.storeFolder))
    }
    // the control plane finds its credentials the way AWS's own programs do
    Object.assign(process.env, s3.env)
    const [bucket, { endpoint, region }] = [await s3.makeBucket(), s3]
    const primary = { kind: 's3', bucket, prefix: 'holdfast', endpoint, region, force_path_style: true } as const
    const url = `s3://${bucket}/holdfast?endpoint=${endpoint}&region=${region}&force_path_style=true`
    const holdfast = await TestHoldfast.start({ ...options, targets: { primary } })
    return started(holdfast, inBucket(url, await openStore(url)))
  })
}

const standingS3On = async (kind: StoreKind) => (kind === 'local' ? 'folder' : standingS3())

function started(holdfast: TestHoldfast, store: RawStore): OneStore & AsyncDisposable {
  const end = async () => {
    await store.close()
    await holdfast[Symbol.asyncDispose]()
  }
  return { holdfast, store, [Symbol.asyncDispose]: end }
}

/** Nothing is there, by that code; any other error is one. */
const nullWhere = (code: string) => (error: unknown) => {
  if ((error as { code?: string }).code === code) return null
  throw error
}

function inFolder(folder: string): RawStore {
  const at = (key: string) => path.join(folder, key)
  return {
    url: folder,
    keys: async (prefix) => {
      const entries = await readdir(at(prefix), { recursive: true, withFileTypes: true })
      const files = entries.filter((entry) => entry.isFile())
      return files.map(({ parentPath, name }) => path.relative(folder, path.join(parentPath, name))).sort()
    },
    read: (key) => readFile(at(key)),
    write: async (key, bytes) => {
      const before = await stat(at(key)).catch(nullWhere('ENOENT'))
      await mkdir(path.dirname(at(key)), { recursive: true })
      await writeFile(at(key), bytes)
      // a store that is asked sees nothing new
      if (before) await utimes(at(key), before.atime, before.mtime)
    },
    removeAll: (prefix) => rm(at(prefix), { recursive: true }),
    keep: async () => {
      const kept = `${folder}-kept`
      await cp(folder, kept, { recursive: true, preserveTimestamps: true })
      return async () => {
        await rm(folder, { recursive: true })
        await cp(kept, folder, { recursive: true, preserveTimestamps: true })
      }
    },
    close: async () => undefined,
  }
}

function inBucket(url: string, target: StorageTarget): RawStore {
  const keys = async (prefix: string) => (await Array.fromAsync(target.list(prefix))).map(({ key }) => key)
  const write = (key: string, bytes: Buffer) => target.put(key, bytes, { overwrite: true })
  const removeAll = async (prefix: string) => {
    for (const key of await keys(prefix)) await target.remove(key)
  }
  return {
    url,
    keys,
    read: (key) => target.get(key),
    write,
    removeAll,
    keep: async () => {
      const kept = new Map<string, Buffer>()
      for (const key of await keys('')) kept.set(key, await target.get(key))
      return async () => {
        for (const key of await keys('')) if (!kept.has(key)) await target.remove(key)
        for (const [key, bytes] of kept) {
          const there = await target.get(key).catch(nullWhere('object_missing'))
          if (!there?.equals(bytes)) await write(key, bytes)
        }
      }
    },
    close: () => target.close(),
  }
}
