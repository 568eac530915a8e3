import { createHash, randomBytes } from 'node:crypto'
import { cp, mkdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import { getBackup } from '../../control-plane/catalog/backups.ts'
import { openCatalog } from '../../control-plane/catalog/open.ts'
import type { ControlPlane } from '../../control-plane/usecases/control-plane.ts'
import { validateBackup } from '../../control-plane/usecases/validate-backup.ts'
import { objectKey } from '../../shared/manifest/layout.ts'
import { verifyManifest } from '../../shared/manifest/verify.ts'
import { openDataKeys } from '../../shared/repository/keys.ts'
import type { ObjectError, ReaderOptions } from '../../shared/repository/repository.ts'
import { verifyManifests, verifyStored } from '../../shared/repository/verify.ts'
import type { VerifyDetail } from '../../shared/results.ts'
import type { Secret } from '../../shared/secret.ts'
import { openStore } from '../../shared/storage/registry.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { TestHoldfast } from '../harness/holdfast.ts'
import { seeded } from '../harness/seeded.ts'

/** A real backup that leans on another one, as the agents stored it, with one bit wrong in every place that matters. */

const SEED = 20261121

let holdfast: TestHoldfast
let full: BackupView
let next: BackupView
let store: StorageTarget
let readable: ReaderOptions
/** Every object that `next` needs, by key. */
const needed = new Map<string, Buffer>()
/** Of `next` and of what it leans on. */
const manifests = new Map<string, Buffer>()

beforeAll(async () => {
  holdfast = await TestHoldfast.start()
  const file = path.join(holdfast.folder.path, 'data', 'app.db')
  await mkdir(path.dirname(file))
  fill(file, 1, 400)
  await holdfast.addAgent('db1', { sources: { app: { engine: 'sqlite', path: file } } })
  full = await holdfast.operator.backUp('db1/app', 'full')
  fill(file, 401, 420)
  next = await holdfast.operator.backUp('db1/app', 'incremental')
  expect(next.leans_on).toEqual([full.id])
  store = await openStore(holdfast.storeFolder)
  await readAll()
})

afterAll(async () => {
  await store?.close()
  await holdfast?.[Symbol.asyncDispose]()
})

function fill(file: string, from: number, to: number): void {
  const db = new DatabaseSync(file)
  db.exec('create table if not exists rows (id integer primary key, body blob)')
  const insert = db.prepare('insert into rows values (?, ?)')
  for (let id = from; id <= to; id++) insert.run(id, randomBytes(300))
  db.close()
}

const fileOf = (key: string): string => path.join(holdfast.storeFolder, key)
const keyOf = (backup: BackupView, name: string): string => `${backup.source}/${backup.id}/${name}`
const manifestOf = async (backup: BackupView) =>
  verifyManifest(await readFile(fileOf(keyOf(backup, 'manifest.json'))), { verifyingKey: holdfast.server.fleet.verifyingKeyText })
    .manifest

async function readAll(): Promise<void> {
  const [manifest, base] = [await manifestOf(next), await manifestOf(full)]
  const keys = new Map<string, Secret<Buffer>>()
  for (const backup of [next, full]) {
    const key = keyOf(backup, 'manifest.json')
    manifests.set(key, await readFile(fileOf(key)))
  }
  for (const { facts } of [manifest, base]) {
    for (const { name } of facts.objects) {
      // what is leaned on is its packs and the keys that open them
      if (facts === base.facts && !/^(packs|keys)\//.test(name)) continue
      needed.set(objectKey(facts, name), await readFile(fileOf(objectKey(facts, name))))
    }
    const opened = await openDataKeys(await readFile(fileOf(objectKey(facts, 'keys/1'))), [holdfast.server.fleet.identity])
    for (const { attempt, dataKey } of opened.keys) keys.set(`${facts.id} ${attempt}`, dataKey)
  }
  readable = {
    manifest,
    leansOn: new Map([[full.id, base]]),
    keys: (id, attempt) => keys.get(`${id} ${attempt}`),
    objects: { get: async (key, range) => part(stored(key), range) },
    signal: new AbortController().signal,
  }
}

let changed: { key: string; bytes: Buffer } | null = null
const stored = (key: string): Buffer =>
  changed?.key === key ? changed.bytes : ((needed.get(key) ?? manifests.get(key)) as Buffer)
/** In memory of its own, which the reader may give back. */
const part = (bytes: Buffer, range: { offset: number; length: number } | null): Buffer =>
  Buffer.from(range ? bytes.subarray(range.offset, range.offset + range.length) : bytes)

async function verify(): Promise<ObjectError[]> {
  const errors: ObjectError[] = []
  for (const check of [verifyManifests, verifyStored]) await check(readable, (error) => errors.push(error))
  return errors
}

/** First and last bytes, where headers, salts, footers and tags lie, and 200 places anywhere. */
function places(key: string, size: number): number[] {
  const random = seeded(SEED + createHash('sha256').update(key.split('/').slice(3).join('/')).digest().readUInt16BE())
  const edge = Math.min(64, size)
  const edges = Array.from({ length: edge }, (_, n) => [n, size - 1 - n]).flat()
  return [...new Set([...edges, ...Array.from({ length: 200 }, () => Math.floor(random() * size))])]
}

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes)
  copy[at] = (copy[at] as number) ^ (1 << (at % 8))
  return copy
}

describe('a bit flipped in every header and trailer byte and at 200 seeded places of each object of a real backup', () => {
  it('is found by verify with the name of the object, and of no other', async () => {
    expect(await verify()).toEqual([])
    expect([...needed.keys()].map((key) => key.split('/')[3])).toEqual(
      expect.arrayContaining(['contents', 'index', 'keys', 'packs']),
    )
    let flips = 0
    for (const [key, bytes] of [...needed, ...manifests]) {
      for (const at of places(key, bytes.length)) {
        changed = { key, bytes: flipped(bytes, at) }
        expect(await verify(), `${key} at ${at}`).toEqual([expect.objectContaining({ code: 'object_damaged', key })])
        flips += 1
      }
    }
    changed = null
    expect(flips).toBeGreaterThan((needed.size + manifests.size) * 200)
  }, 300_000)

  it('is found by the verify job of an agent, object by object, and by none after it was mended', async () => {
    for (const [key, bytes] of [...needed, ...manifests]) {
      await writeFile(fileOf(key), flipped(bytes, bytes.length - 1))
      const detail = (await holdfast.operator.verify(next.id)).detail as unknown as VerifyDetail
      expect(detail.valid, key).toBe(false)
      expect(detail.errors.map(({ object }) => object)).toEqual([key])
      await writeFile(fileOf(key), bytes)
    }
    expect((await holdfast.operator.verify(next.id)).detail).toMatchObject({ valid: true, errors: [] })
  })
})

describe('validate', () => {
  afterEach(async () => {
    for (const [key, bytes] of needed) {
      await rm(fileOf(key), { force: true })
      await writeFile(fileOf(key), bytes)
    }
  })

  it('finds each missing and each short object by name', async () => {
    for (const key of needed.keys()) {
      await rename(fileOf(key), `${fileOf(key)}.away`)
      expect((await holdfast.operator.validate(next.id)).details).toEqual([
        expect.objectContaining({ code: 'object_missing', object: key }),
      ])
      await rename(`${fileOf(key)}.away`, fileOf(key))
      await cp(fileOf(key), `${fileOf(key)}.away`)
      await truncate(fileOf(key), (needed.get(key) as Buffer).length - 1)
      expect((await holdfast.operator.validate(next.id)).details).toEqual([
        expect.objectContaining({ code: 'object_damaged', object: key }),
      ])
      await rename(`${fileOf(key)}.away`, fileOf(key))
    }
  })

  it('reads no body for it: of what is missing or short the store is asked for heads and manifests alone', async () => {
    await holdfast.stopServer()
    const folder = path.join(holdfast.folder.path, 'server', 'catalog')
    const catalog = await openCatalog({ kind: 'embedded', folder })
    try {
      const read: string[] = []
      // all that a validation has of the store: anything else would be missing, and throw
      const counted: Pick<StorageTarget, 'get' | 'head'> = {
        head: (key, signal) => store.head(key, signal),
        get: (key, options) => {
          read.push(key)
          return store.get(key, options)
        },
      }
      const cp = { catalog, fleet: holdfast.server.fleet, target: async () => counted } as unknown as ControlPlane
      const validate = async () => validateBackup(cp, await getBackup(catalog.db, next.id), new AbortController().signal)
      const manifests = [full, next].map((backup) => keyOf(backup, 'manifest.json'))
      for (const [key, bytes] of needed) {
        for (const damage of [() => rm(fileOf(key)), () => writeFile(fileOf(key), bytes.subarray(0, -1))]) {
          read.length = 0
          await damage()
          expect((await validate()).details.map(({ object }) => object)).toEqual([key])
          expect(read.sort()).toEqual(manifests)
          await writeFile(fileOf(key), bytes)
        }
      }
      // the wrapper does see bodies: of a backup that has everything a sample is opened
      read.length = 0
      expect(await validate()).toMatchObject({ valid: true })
      expect(read.some((key) => key.includes('/packs/'))).toBe(true)
    } finally {
      await catalog.close()
      await holdfast.startServer()
    }
  })
})
