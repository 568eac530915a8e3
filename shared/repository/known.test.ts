import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { newAgeIdentity } from '../age/age.ts'
import type { BackupSink } from '../artifacts.ts'
import { objectKey } from '../manifest/layout.ts'
import type { Manifest } from '../manifest/manifest.ts'
import { openIndex } from './index-object.ts'
import { dropKnown, keepKnown, openKnown } from './known.ts'
import { type RebuildOptions, rebuildKnown } from './known-rebuild.ts'
import { entries, file, pieces, seededBytes } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'
import { temporaryFolder } from './testing/temporary-folders.ts'

const chunking = { kind: 'content-defined', averageBytes: 4096 } as const
const signal = new AbortController().signal

let fleet: TestFleet
let full: Manifest
let next: Manifest
const reads: string[] = []

const write = (day: number) => async (sink: BackupSink) => {
  await sink.stream({ name: 'dump', chunking }, pieces(Buffer.concat([seededBytes(1, 2_000_000), seededBytes(day, 50_000)])))
  const files = Array.from({ length: 300 }, (_, n) =>
    file({ path: `file ${n}`, bytes: seededBytes(100 + n, 900 + n), identity: `${n}`, onRead: () => reads.push(`file ${n}`) }),
  )
  const sparse = [
    { offset: 10_000, bytes: seededBytes(3, 9000) },
    { offset: 90_000, bytes: seededBytes(4, 9000) },
  ]
  await sink.tree(
    { name: 'tree', chunking },
    entries([...files, file({ path: 'sparse', extents: sparse, size: 200_000, identity: 's' })]),
  )
}

beforeEach(async () => {
  fleet = await TestFleet.create()
  full = await fleet.backup(0, write(10))
  next = await fleet.backup(1, write(11), { base: full })
  reads.length = 0
})

test('the list is usable whatever else the reference of its backup held, as one that came by wire does', async () => {
  const backup = { ...fleet.place(2), manifestSha256: Buffer.alloc(0) }
  const made = await fleet.backup(2, write(12), { backup })
  expect(await fleet.known(made)).not.toBeNull()
})

const knownFileOf = (manifest: Manifest) => path.join(fleet.knownFolder, `${manifest.facts.id}.known`)
const rebuild = (manifest: Manifest, more: Partial<RebuildOptions> = {}) => {
  const { host, source, id } = manifest.facts
  const base = { host, source, id, manifestSha256: fleet.sha256(manifest) }
  const folder = temporaryFolder()
  const options = {
    folder,
    scratch: temporaryFolder(),
    base,
    objects: fleet.objects,
    agentIdentity: fleet.agentIdentity,
    signal,
    ...more,
  }
  return { folder, known: rebuildKnown(options) }
}

describe('the list of known chunks', () => {
  test('rebuilt from index it is the same file, byte for byte', async () => {
    for (const manifest of [full, next]) {
      const { folder, known } = rebuild(manifest)
      await (await known).close()
      const rebuilt = readFileSync(path.join(folder, `${manifest.facts.id}.known`))
      expect(rebuilt.equals(readFileSync(knownFileOf(manifest)))).toBe(true)
    }
  })

  test('an incremental with a rebuilt list reads no unchanged file and stores next to nothing', async () => {
    const { folder, known } = rebuild(next)
    await (await known).close()
    Object.assign(fleet, { knownFolder: folder })
    await fleet.backup(2, write(11), { base: next })
    expect(reads).toEqual([])
    expect(fleet.lastTotals?.resentBytes).toBe(0)
    expect(fleet.lastTotals?.chunksSkipped).toBe(fleet.lastTotals?.chunks)
  })

  test('the agent opens index, and with it no block of data and no page of contents', async () => {
    const { facts } = next
    const sealed = fleet.objects.objects.get(objectKey(facts, 'index/1')) as Buffer
    const ref = { host: facts.host, source: facts.source, id: facts.id }
    const index = await openIndex(sealed, ref, 1, [fleet.agentIdentity])
    const text = JSON.stringify(index)
    expect(text).not.toContain('file 17')
    await expect(openIndex(sealed, ref, 1, [await newAgeIdentity()])).rejects.toMatchObject({
      code: 'key_missing',
    })
    const { openDataKeys } = await import('./keys.ts')
    const keys = fleet.objects.objects.get(objectKey(facts, 'keys/1')) as Buffer
    await expect(openDataKeys(keys, [fleet.agentIdentity])).rejects.toMatchObject({ code: 'key_missing' })
    const dataKey = (await openDataKeys(keys, [fleet.identity])).keys[0]?.dataKey.reveal() as Buffer
    expect(text).not.toContain(dataKey.toString('hex'))
  })

  test('rebuilding reads directories and index pages, no packs', async () => {
    fleet.objects.gets = []
    await (await rebuild(full).known).close()
    const pack = full.facts.objects.find(({ name }) => name.startsWith('packs/'))
    const read = fleet.objects.gets.filter(({ key }) => key.includes('/packs/')).reduce((sum, { length }) => sum + length, 0)
    expect(read).toBeLessThan((pack?.size ?? 0) / 3)
  })

  test('a head that does not match the base of the command: there is no list', async () => {
    expect(await openKnown(fleet.knownFolder, { id: next.facts.id, manifestSha256: Buffer.alloc(32) })).toBeNull()
    expect(await openKnown(fleet.knownFolder, { id: fleet.place(3).id, manifestSha256: Buffer.alloc(32) })).toBeNull()
  })

  test('any flipped bit, and any cut, in the file: there is no list', async () => {
    const file = knownFileOf(next)
    const bytes = readFileSync(file)
    const draw = seededBytes(1, 1600)
    const places = Array.from({ length: 400 }, (_, n) => draw.readUInt32LE(n * 4) % bytes.length)
    for (let n = 1; n <= 60; n++) places.push(bytes.length - n)
    let openedAll = 0
    for (const at of places) {
      const copy = Buffer.from(bytes)
      ;(copy[at] as number) ^= 1
      writeFileSync(file, copy)
      const known = await openKnown(fleet.knownFolder, { id: next.facts.id, manifestSha256: fleet.sha256(next) })
      // blobs of files are checked when they are used
      if (known) openedAll++
      await known?.close()
    }
    expect(openedAll).toBeLessThan(places.length / 4)
    for (const length of [0, 10, 4096, bytes.length - 1]) {
      writeFileSync(file, bytes.subarray(0, length))
      expect(await openKnown(fleet.knownFolder, { id: next.facts.id, manifestSha256: fleet.sha256(next) })).toBeNull()
    }
  })

  test('chunks enter it only after the commit is confirmed: a draft without a seal is no list', async () => {
    const folder = temporaryFolder()
    const bytes = readFileSync(knownFileOf(next))
    const scratch = temporaryFolder()
    writeFileSync(path.join(scratch, 'known'), bytes.subarray(0, -40))
    const id = next.facts.id
    writeFileSync(path.join(folder, `${id}.known`), bytes.subarray(0, -40))
    expect(await openKnown(folder, { id, manifestSha256: fleet.sha256(next) })).toBeNull()
    for (let times = 0; times < 2; times++) await keepKnown(scratch, folder, { id, manifestSha256: fleet.sha256(next) })
    const known = await openKnown(folder, { id, manifestSha256: fleet.sha256(next) })
    expect(known?.baseId).toBe(id)
    await known?.close()
  })

  test('lists of backups that are no base any more are removed', async () => {
    await dropKnown(fleet.knownFolder, [next.facts.id])
    expect(await openKnown(fleet.knownFolder, { id: full.facts.id, manifestSha256: fleet.sha256(full) })).toBeNull()
    await (await fleet.known(next)).close()
    await dropKnown(path.join(fleet.knownFolder, 'absent'), [])
  })
})
