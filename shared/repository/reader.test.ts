import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { TreeEntry, TreeOutput } from '../artifacts.ts'
import type { Manifest } from '../manifest/manifest.ts'
import { ByteReader, ByteWriter } from './bytes.ts'
import type { BlockDecoder } from './codec-threads.ts'
import { readEntry, writeEntry } from './entries.ts'
import { LIMITS, MIB } from './format.ts'
import { openPacked } from './packing.mjs'
import { openReader } from './reader.ts'
import type { BackupReader, ReaderOptions } from './repository.ts'
import { isRun, RECORD, readRun, START } from './runs.ts'
import { collect, contentOf, entries, file, pieces, seededBytes } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'
import { HostileBackup } from './testing/hostile.ts'

const chunking = { kind: 'content-defined', averageBytes: 4096 } as const
const fixed = { kind: 'fixed', bytes: 65_536 } as const

/** More than all blocks that are held open. */
const stream = seededBytes(1, 12 * MIB + 17)
/** The last of several blocks. */
const contents = [...[0, 1, 2, 3, 4, 5, 6].map((n) => seededBytes(10 + n, n * 100_000)), seededBytes(17, 2_600_000)]
const link: TreeEntry = {
  ...{ path: Buffer.from('other name'), type: 'file', mode: 0o644, uid: 0, gid: 0, mtimeNs: 1n, size: 100_000 },
  hardLinkTo: Buffer.from('f1'),
}
const folder: TreeEntry = { path: Buffer.from('d'), type: 'directory', mode: 0o755, uid: 0, gid: 0, mtimeNs: 1n, size: 0 }
/** Three pages of rows. */
const wide = Array.from({ length: 60 }, (_, n) => `w${n}`)

let fleet: TestFleet
let full: Manifest
let next: Manifest
beforeAll(async () => {
  fleet = await TestFleet.create()
  const files = contents.map((bytes, n) => file({ path: `f${n}`, bytes }))
  full = await fleet.backup(0, async (sink) => {
    await sink.stream({ name: 'stream', part: 'p', chunking: fixed, facts: { a: 'b' } }, pieces(stream))
    await sink.tree({ name: 'tree', chunking: fixed }, entries([folder, ...files, link]))
    const extents = [100_000, 900_000].map((offset) => ({ offset, bytes: seededBytes(offset, 70_000) }))
    await sink.tree({ name: 'sparse', chunking: fixed }, entries([file({ path: 's', extents, size: 1_000_000 })]))
  })
  next = await fleet.backup(
    1,
    async (sink) => {
      await sink.stream({ name: 'stream', chunking: fixed }, pieces(Buffer.concat([stream, Buffer.from('more')])))
      for (const name of wide)
        await sink.stream({ name, chunking, facts: { long: 'x'.repeat(20_000) } }, pieces(Buffer.from(name)))
    },
    { base: full },
  )
})

/** What is at hand is that of `of`. */
async function open(manifest: Manifest, more: Partial<ReaderOptions> = {}, of = manifest): Promise<BackupReader> {
  const reader = await openReader({ ...(await fleet.readerOptions(of)), manifest, ...more })
  onTestFinished(() => reader.close())
  return reader
}

async function tree(reader: BackupReader, accept?: (entry: TreeEntry) => boolean): Promise<TreeOutput[]> {
  const all: TreeOutput[] = []
  for await (const entry of reader.openTree('tree', accept)) all.push(entry)
  return all
}

describe('what a reader gives', () => {
  test('artifacts, with what was said of them, in the order of their names', async () => {
    const reader = await open(full)
    const all = []
    for await (const artifact of reader.artifacts()) all.push(artifact)
    const bytes = contents.reduce((sum, { length }) => sum + length, 0)
    expect(all).toEqual([
      { kind: 'tree', name: 'sparse', part: undefined, bytes: 1_000_000, facts: {} },
      { kind: 'stream', name: 'stream', part: 'p', bytes: stream.length, facts: { a: 'b' } },
      { kind: 'tree', name: 'tree', part: undefined, bytes, facts: {} },
    ])
    expect(reader.manifest).toBe(full)
    expect(reader.fingerprint).toEqual({ counts: { all: 1 }, facts: {} })
  })

  test('a stream, whose pieces stay what they are while more of it is read', async () => {
    const kept: Buffer[] = []
    for await (const piece of (await open(full)).openStream('stream')) kept.push(piece)
    expect(kept.length).toBeGreaterThan(3)
    expect(Buffer.concat(kept).equals(stream)).toBe(true)
  })

  test('content of files alone, and of those that were asked for', async () => {
    const reader = await open(full)
    const all = await tree(reader)
    expect(all.map(({ path, read }) => `${path} ${read !== undefined}`)).toEqual([
      'd false',
      ...contents.map((_, n) => `f${n} true`),
      'other name false',
    ])
    const chosen: string[] = []
    for await (const entry of reader.openTree('tree', ({ path }) => /[25]/.test(path.toString()))) {
      const n = Number(entry.path.toString().slice(1))
      expect((await contentOf(entry)).equals(contents[n] as Buffer)).toBe(true)
      chosen.push(entry.path.toString())
    }
    expect(chosen).toEqual(['f2', 'f5'])
    expect(await tree(reader, () => false)).toEqual([])
  })

  test('the content of a file whenever it is asked for: in its turn, later, again, or half now and half after the next', async () => {
    const reader = await open(full)
    const all = await tree(reader)
    for (const n of [8, 1, 4, 4]) expect((await contentOf(all[n] as TreeOutput)).equals(contents[n - 1] as Buffer)).toBe(true)
    const halves: boolean[] = []
    const walk = reader.openTree('tree')[Symbol.asyncIterator]()
    for (;;) {
      const { done, value: entry } = await walk.next()
      if (done) break
      if (entry.path.toString() !== 'f7') continue
      const whole = Buffer.alloc(entry.size)
      let count = 0
      for await (const { offset, bytes } of entry.read?.() ?? []) {
        bytes.copy(whole, offset)
        count++
        if (count === 1) await walk.next()
      }
      halves.push(count > 1 && whole.equals(contents[7] as Buffer))
    }
    expect(halves).toEqual([true])
  })

  test('what a sparse file holds, where it lies, and nothing for its holes', async () => {
    const found: unknown[] = []
    for await (const { read } of (await open(full)).openTree('sparse')) {
      for await (const { offset, bytes } of read?.() ?? []) found.push([offset, bytes.equals(seededBytes(offset, 70_000))])
    }
    expect(found).toEqual([
      [100_000, true],
      [900_000, true],
    ])
  })

  test('how much it has read, and how many chunks it gave', async () => {
    const seen: number[] = []
    fleet.objects.gets = []
    const reader = await open(full, { onProgress: ({ readBytes }) => seen.push(readBytes) })
    await collect(reader.openStream('stream'))
    const read = seen.at(-1) as number
    expect(read).toBeGreaterThan(stream.length)
    // contents and the like are fetched before
    expect(read).toBeLessThanOrEqual(fleet.objects.gets.reduce((sum, { length }) => sum + length, 0))
    expect(seen.every((bytes, n) => bytes > (seen[n - 1] ?? 0))).toBe(true)
    for (const entry of await tree(reader)) await contentOf(entry)
    const chunks = Math.ceil(stream.length / 65_536) + contents.reduce((sum, { length }) => sum + Math.ceil(length / 65_536), 0)
    expect(reader.totals).toMatchObject({ chunks, foundBytes: 0 })
  })

  test('blocks are opened by what it was given for that, which ends with it', async () => {
    const calls = { opened: 0, closed: 0 }
    const decoder: BlockDecoder = {
      open: async (content) => {
        calls.opened++
        return openPacked(content)
      },
      close: async () => void calls.closed++,
    }
    const reader = await openReader(await fleet.readerOptions(full), decoder)
    expect((await collect(reader.openStream('stream'))).equals(stream)).toBe(true)
    expect(calls.opened).toBeGreaterThan(3)
    expect(calls.closed).toBe(0)
    await reader.close()
    expect(calls.closed).toBe(1)
  })

  test('verification and samples, of itself and of what it leans on', async () => {
    const reader = await open(next)
    const errors: unknown[] = []
    const { objects } = await reader.verify({ onError: (error) => errors.push(error) })
    expect(objects).toBe(next.facts.objects.length + 2)
    expect((await reader.sample(2, { onError: (error) => errors.push(error) })).blocks).toBeGreaterThan(1)
    expect(errors).toEqual([])
  })
})

describe('an artifact', () => {
  test('is found by its name in whatever page it stands, and by its kind', async () => {
    const reader = await open(next)
    for (const n of [0, 1, 25, 33, 41, 59]) {
      const name = wide[n] as string
      expect((await collect(reader.openStream(name))).toString()).toBe(name)
    }
    expect((await collect(reader.openStream('stream'))).subarray(0, -4).equals(stream)).toBe(true)
    let before = ''
    let count = 0
    for await (const { name } of reader.artifacts()) {
      expect(before < name).toBe(true)
      before = name
      count++
    }
    expect(count).toBe(wide.length + 1)
  })

  test('that is not there, or is of another kind, is said to be missing', async () => {
    const missing = (what: string) => ({
      code: 'not_found',
      message: `the backup has no ${what}`,
      hint: 'Look at what the backup holds with: holdfast show ID',
    })
    const reader = await open(next)
    for (const name of ['', 'a', 'w', 'w330', 'zzz']) {
      await expect(collect(reader.openStream(name))).rejects.toMatchObject(missing(`stream ${JSON.stringify(name)}`))
    }
    await expect(collect((await open(full)).openStream('tree'))).rejects.toMatchObject(missing('stream "tree"'))
    const nothing = await fleet.backup(2, async () => undefined)
    await expect(collect((await open(nothing)).openStream('stream'))).rejects.toMatchObject(missing('stream "stream"'))
    await expect((async () => tree(await open(nothing)))()).rejects.toMatchObject(missing('tree "tree"'))
  })
})

describe('a backup that is not what its manifest says', () => {
  const folderOf = ({ facts }: Manifest) => `db1/app/${facts.id}`
  const damaged = (key: string, what: string) => ({
    code: 'object_damaged',
    message: `${key} is damaged: ${what}`,
    context: { key },
  })

  test('is refused when what it leans on is missing or another, and nothing is read', async () => {
    const key = `${folderOf(full)}/manifest.json`
    fleet.objects.gets = []
    await expect(open(next, { leansOn: new Map() })).rejects.toMatchObject({
      code: 'object_missing',
      message: `${key} is missing, and the backup leans on it`,
      hint: 'Read the backup from a target where everything it leans on is good too.',
      context: { key },
    })
    const leaned = (change: object): Manifest => ({
      ...next,
      facts: { ...next.facts, leans_on: next.facts.leans_on.map((row) => ({ ...row, ...change })) },
    })
    const other = 'it is not the manifest that was leaned on'
    const leansOn = new Map([[full.facts.id, full]])
    await expect(open(leaned({ manifest_sha256: '0'.repeat(64) }), { leansOn }, next)).rejects.toMatchObject(damaged(key, other))
    await expect(open(leaned({ host: 'db2' }), { leansOn }, next)).rejects.toMatchObject(
      damaged(key.replace('db1', 'db2'), other),
    )
    await expect(open(leaned({ source: 'app2' }), { leansOn }, next)).rejects.toMatchObject(
      damaged(key.replace('app', 'app2'), other),
    )
    const id = full.facts.id.replace(/.$/, (last) => (last === '0' ? '1' : '0'))
    const asked = open(leaned({ id }), { leansOn: new Map([[id, full]]) }, next)
    await expect(asked).rejects.toMatchObject(damaged(key.replace(full.facts.id, id), other))
    expect(fleet.objects.gets).toEqual([])
  })

  test('is refused when its contents lean on other backups', async () => {
    const leansOn = new Map([[full.facts.id, full]])
    const key = `${folderOf(next)}/contents/1`
    const what = 'it leans on other backups than the manifest says'
    const none = { ...next, facts: { ...next.facts, leans_on: [] } }
    await expect(open(none, { leansOn }, next)).rejects.toMatchObject(damaged(key, what))
    const twice = { ...next, facts: { ...next.facts, leans_on: [...next.facts.leans_on, ...next.facts.leans_on] } }
    await expect(open(twice, { leansOn }, next)).rejects.toMatchObject(damaged(key, what))
  })

  test('is refused when its contents are not named, too large, or other bytes than were stored', async () => {
    const key = `${folderOf(full)}/contents/1`
    const named = (change: object | null): Manifest => {
      const objects = full.facts.objects.flatMap((row) => {
        if (row.name !== 'contents/1') return [row]
        return change ? [{ ...row, ...change }] : []
      })
      return { ...full, facts: { ...full.facts, objects } }
    }
    await expect(open(named(null))).rejects.toMatchObject(damaged(key, 'the manifest does not name it'))
    fleet.objects.gets = []
    await expect(open(named({ size: LIMITS.head + 1 }))).rejects.toMatchObject(damaged(key, 'it is too large'))
    expect(fleet.objects.gets).toEqual([])
    const other = damaged(key, 'its bytes are not those that were stored')
    await expect(open(named({ sha256: '0'.repeat(64) }))).rejects.toMatchObject(other)
    await expect(open(named({ size: LIMITS.head }))).rejects.toMatchObject({ code: 'object_damaged' })
  })
})

describe('a hostile backup', () => {
  let backup: HostileBackup
  beforeAll(async () => {
    backup = await HostileBackup.take()
  })

  /** The rows of its artifacts, each changed. */
  function rows(change: (row: Record<string, unknown>) => unknown[]): Buffer {
    const reader = new ByteReader(backup.parts.artifacts, (what) => new Error(what), 1)
    const out = new ByteWriter()
    out.u8(1)
    while (reader.left > 0) {
      for (const row of change(JSON.parse(reader.sized(MIB).toString()))) out.sized(Buffer.from(JSON.stringify(row)))
    }
    return out.copy()
  }
  const only = (name: string, change: object) => rows((row) => [row.name === name ? { ...row, ...change } : row])
  const refusals = async (parts: Parameters<HostileBackup['read']>[0]) =>
    (await backup.read(parts))
      .filter((result) => result instanceof Error)
      .map(({ message }) => message.replace(/^.* is damaged: /, ''))

  test('with a row of artifacts of another shape, or with one twice, is refused', async () => {
    const shape = 'an artifact is of another shape, or there twice'
    for (const artifacts of [only('tree', { kind: 'file' }), rows((row) => [row, row])]) {
      // by whoever lists, and whoever looks for one
      const refused = await refusals({ artifacts })
      expect(refused.filter((message) => message.endsWith(shape)).length).toBeGreaterThanOrEqual(3)
    }
  })

  test('whose stream has a hole, or is longer or of another digest than is said, ends with an error', async () => {
    const text = 'stream "stream" is not what was stored'
    expect(await refusals({ artifacts: only('stream', { bytes: 30_001 }) })).toEqual([text])
    expect(await refusals({ artifacts: only('stream', { digest: '0'.repeat(64) }) })).toEqual([text])
    const hole = { inline: Buffer.of(RECORD.hole, 5).toString('base64') }
    const refused = await refusals({ artifacts: only('stream', { body: hole, bytes: 0 }) })
    expect(refused).toContain('stream "stream" has a hole')
  })

  test('whose tree is of another digest ends with an error', async () => {
    expect(await refusals({ artifacts: only('tree', { digest: '0'.repeat(64) }) })).toEqual([
      'tree "tree" is not what was stored',
    ])
  })

  test('whose file is longer or shorter than its content gives out nothing beyond its size, and ends with an error', async () => {
    for (const [size, has] of [
      [51, 50],
      [49, 0],
      [0, 0],
    ] as const) {
      const refused = await refusals({ body: resized(backup.parts.body, size) })
      if (size === 0) expect(refused).toEqual(['tree "tree" is not what was stored'])
      else expect(refused[0]).toBe(`a file of ${size} bytes has content for ${has}`)
    }
  })
})

/** A body page whose first file says another size. */
function resized(body: Buffer, size: number): Buffer {
  const fail = (what: string) => new Error(what)
  const reader = new ByteReader(body, fail, 1)
  let before = START
  while (reader.left > 0) {
    const begin = reader.at
    const tag = reader.u8()
    if (isRun(tag)) before = readRun(reader, tag, before)
    else {
      const entry = readEntry(reader.sized(MIB), fail)
      const [out, written] = [new ByteWriter(), new ByteWriter()]
      writeEntry(written, entry, size, entry.mtimeNs)
      out.u8(RECORD.entry).sized(written.view())
      return Buffer.concat([body.subarray(0, begin), out.copy(), body.subarray(reader.at)])
    }
  }
  throw fail('no entry')
}
