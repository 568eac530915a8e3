import { beforeEach, describe, expect, test } from 'vitest'
import type { BackupSink } from '../artifacts.ts'
import { objectKey } from '../manifest/layout.ts'
import type { Manifest } from '../manifest/manifest.ts'
import { planResend, RESEND_AFTER } from './resend.ts'
import { collect, contentOf, entries, type FileSpec, file, pieces, seededBytes } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'

const chunking = { kind: 'content-defined', averageBytes: 4096 } as const
const pages = { kind: 'fixed', bytes: 1024 } as const

let fleet: TestFleet
beforeEach(async () => {
  fleet = await TestFleet.create()
})

const stream = (bytes: Buffer) => (sink: BackupSink) => sink.stream({ name: 'dump', chunking }, pieces(bytes))
const leans = (manifest: Manifest) => manifest.facts.leans_on.map(({ id }) => id)

describe('what an incremental leans on', () => {
  test('full: nothing is known', async () => {
    const bytes = seededBytes(1, 500_000)
    await fleet.backup(0, stream(bytes))
    const again = await fleet.backup(1, stream(bytes))
    expect(leans(again)).toEqual([])
    expect(fleet.lastTotals?.chunksSkipped).toBe(0)
  })

  test('differential: it leans only on the last full, whatever came between', async () => {
    const first = seededBytes(1, 500_000)
    const full = await fleet.backup(0, stream(first))
    const second = Buffer.concat([first, seededBytes(2, 300_000)])
    await fleet.backup(1, stream(second), { base: full })
    const differential = await fleet.backup(2, stream(second), { base: full, type: 'differential' })
    expect(differential.facts.type).toBe('differential')
    expect(leans(differential)).toEqual([full.facts.id])
    // what the incremental between had stored is stored again
    expect(differential.facts.stored_bytes).toBeGreaterThan(300_000)
    expect((await collect((await fleet.reader(differential)).openStream('dump'))).equals(second)).toBe(true)
  })

  test('known is exactly what the contents of the base reference: what it no longer holds is stored again', async () => {
    const keep = seededBytes(1, 200_000)
    const gone = seededBytes(2, 200_000)
    const full = await fleet.backup(0, async (sink) => {
      await sink.stream({ name: 'a', chunking }, pieces(keep))
      await sink.stream({ name: 'b', chunking }, pieces(gone))
    })
    const without = await fleet.backup(1, (sink) => sink.stream({ name: 'a', chunking }, pieces(keep)), { base: full })
    await fleet.backup(2, (sink) => sink.stream({ name: 'b', chunking }, pieces(gone)), { base: without })
    expect(fleet.lastTotals?.skippedBytes).toBe(0)
    expect(leans(fleet.lastManifest as Manifest)).toEqual([])
  })

  test('a chunk that comes twice in a backup is stored once, in whatever artifact', async () => {
    const bytes = seededBytes(1, 400_000)
    const manifest = await fleet.backup(0, async (sink) => {
      await Promise.all(['a', 'b', 'c'].map((name) => sink.stream({ name, chunking }, pieces(bytes, 5000))))
      await sink.tree({ name: 't', chunking }, entries([file({ path: 'x', bytes })]))
    })
    expect(manifest.facts.stored_bytes).toBeLessThan(500_000)
    const reader = await fleet.reader(manifest)
    for (const name of ['a', 'b', 'c']) expect((await collect(reader.openStream(name))).equals(bytes)).toBe(true)
  })

  test('chunks of packs that were found damaged count as unknown, so that the next incremental heals', async () => {
    const bytes = seededBytes(1, 300_000)
    const full = await fleet.backup(0, stream(bytes))
    const pack = full.facts.objects.find(({ name }) => name.startsWith('packs/'))?.name as string
    const damaged = objectKey(full.facts, pack)
    const healed = await fleet.backup(1, stream(bytes), { base: full, damagedPacks: [damaged] })
    expect(leans(healed)).toEqual([])
    expect(fleet.lastTotals?.resentBytes).toBe(300_000)
    fleet.objects.objects.delete(damaged)
    expect((await collect((await fleet.reader(healed)).openStream('dump'))).equals(bytes)).toBe(true)
  })
})

describe('trees', () => {
  const spec = (n: number, reads: string[], more: Partial<FileSpec> = {}): FileSpec => ({
    path: `dir/${n}`,
    bytes: seededBytes(n, 3000 + n),
    identity: `inode ${n}`,
    onRead: () => reads.push(`dir/${n}`),
    ...more,
  })
  const tree = (specs: FileSpec[]) => (sink: BackupSink) => sink.tree({ name: 'tree', chunking }, entries(specs.map(file)))

  test('unchanged files are not read, and come back from the new manifest', async () => {
    const reads: string[] = []
    const specs = Array.from({ length: 50 }, (_, n) => spec(n, reads))
    const full = await fleet.backup(0, tree(specs))
    expect(reads).toHaveLength(50)
    reads.length = 0
    specs[7] = spec(7, reads, { bytes: seededBytes(1007, 3007), identity: 'inode 7, later' })
    const next = await fleet.backup(1, tree(specs), { base: full })
    expect(reads).toEqual(['dir/7'])
    expect(fleet.lastTotals?.readBytes).toBe(3007)
    const third = await fleet.backup(2, tree(specs), { base: next })
    expect(reads).toEqual(['dir/7'])
    for await (const entry of (await fleet.reader(third)).openTree('tree')) {
      const n = specs.findIndex(({ path }) => path === entry.path.toString())
      expect((await contentOf(entry)).equals(specs[n]?.bytes as Buffer)).toBe(true)
    }
  })

  test('the same identity under another path, or another size, is read', async () => {
    const reads: string[] = []
    const full = await fleet.backup(0, tree([spec(1, reads)]))
    await fleet.backup(1, tree([spec(1, reads, { path: 'moved' }), { ...spec(1, reads), bytes: seededBytes(1, 9) }]), {
      base: full,
    })
    expect(reads).toHaveLength(3)
    // moved, it is read but not stored again
    expect(fleet.lastTotals?.skippedBytes).toBe(3001)
  })

  test('a file that changed while it was read is read again next time', async () => {
    const reads: string[] = []
    const one = file(spec(1, reads))
    const unstable = {
      ...one,
      content: {
        identity: 'x',
        async *read() {
          reads.push('unstable')
          yield { offset: 0, bytes: seededBytes(3, 500) }
          return { identity: null, size: 400, mtimeNs: 9n }
        },
      },
    }
    const write = (sink: BackupSink) => sink.tree({ name: 'tree', chunking }, entries([unstable]))
    const full = await fleet.backup(0, write)
    await fleet.backup(1, write, { base: full })
    expect(reads).toEqual(['unstable', 'unstable'])
    for await (const entry of (await fleet.reader(fleet.lastManifest as Manifest)).openTree('tree')) {
      expect([entry.size, entry.mtimeNs]).toEqual([500, 9n])
    }
  })

  test('a file that vanishes while it is read is left out, and nothing of it is known', async () => {
    const reads: string[] = []
    const bytes = seededBytes(1, 50_000)
    const write = (vanishes: boolean) => (sink: BackupSink) =>
      sink.tree({ name: 'tree', chunking }, entries([file(spec(1, reads, { bytes, vanishes })), file(spec(2, reads))]))
    const full = await fleet.backup(0, write(true))
    const reader = await fleet.reader(full)
    const paths: string[] = []
    for await (const { path } of reader.openTree('tree')) paths.push(path.toString())
    expect(paths).toEqual(['dir/2'])
    expect(full.facts.total_count).toBe(1)
    await fleet.backup(1, write(false), { base: full })
    expect(fleet.lastTotals?.skippedBytes).toBe(3002)
  })

  test('unchanged files that hold chunks to be stored again are read for it', async () => {
    const reads: string[] = []
    const specs = Array.from({ length: 40 }, (_, n) => spec(n, reads))
    const full = await fleet.backup(0, tree(specs))
    reads.length = 0
    const next = await fleet.backup(1, tree(specs), { base: full, resend: { backupIds: [full.facts.id], permille: 200 } })
    expect(reads.length).toBeGreaterThanOrEqual(8)
    expect(reads.length).toBeLessThanOrEqual(10)
    expect(fleet.lastTotals?.resentBytes).toBeGreaterThan(0.18 * 40 * 3020)
    for await (const entry of (await fleet.reader(next)).openTree('tree')) {
      expect((await contentOf(entry)).equals(specs[Number(entry.path.toString().slice(4))]?.bytes as Buffer)).toBe(true)
    }
  })
})

describe('resend', () => {
  test('nothing until more than 14 are leaned on or one is kept only for that; then the oldest first, the kept ones before', () => {
    const ids = Array.from({ length: RESEND_AFTER }, (_, n) => `${20_260_101 + n}T000000Z-aaaaaaaaaa`)
    expect(planResend(ids, [])).toEqual({ backupIds: [], permille: 0 })
    expect(planResend(ids, [ids[3] as string])).toEqual({ backupIds: [ids[3]], permille: 50 })
    const more = [...ids, '20260201T000000Z-aaaaaaaaaa'].reverse()
    expect(planResend(more, [])).toEqual({ backupIds: [...more].sort(), permille: 50 })
    expect(planResend(more, [ids[9] as string]).backupIds.slice(0, 2)).toEqual([ids[9], ids[0]])
  })

  test('an incremental stores at most the share again, oldest backup first', async () => {
    const bytes = seededBytes(1, 400 * 1024)
    const write = (sink: BackupSink) => sink.stream({ name: 'db', chunking: pages }, pieces(bytes))
    const full = await fleet.backup(0, write)
    const next = await fleet.backup(1, write, { base: full, resend: { backupIds: [full.facts.id], permille: 50 } })
    expect(fleet.lastTotals?.resentBytes).toBe(20 * 1024)
    bytes.fill(1, 0, 1024 * 50)
    const third = await fleet.backup(2, write, {
      base: next,
      resend: { backupIds: [full.facts.id, next.facts.id], permille: 1000 },
    })
    expect(leans(third)).toEqual([])
  })

  /** A year of daily incrementals at 1 % a day with the real writer: each changes 5 of 500 pages, and one new page comes a week. */
  test('a year of daily incrementals leans on fewer than 30 backups and frees old ones; the last day restores', async () => {
    let bytes = seededBytes(1, 500 * 1024)
    const write = (sink: BackupSink) => sink.stream({ name: 'db', chunking: pages }, pieces(bytes))
    let base = await fleet.backup(0, write)
    const full = base.facts.id
    let most = 0
    const lastUse = new Map<string, number>()
    for (let day = 1; day <= 365; day++) {
      const draw = seededBytes(1000 + day, 5 * 1024 + 20)
      for (let n = 0; n < 5; n++)
        draw.copy(bytes, (draw.readUInt32LE(n * 4) % (bytes.length / 1024)) * 1024, 20 + n * 1024, 20 + (n + 1) * 1024)
      if (day % 7 === 0) bytes = Buffer.concat([bytes, seededBytes(9000 + day, 1024)])
      const resend = planResend([...leans(base), base.facts.id], [])
      base = await fleet.backup(day, write, { base, resend })
      for (const id of leans(base)) lastUse.set(id, day)
      most = Math.max(most, leans(base).length)
    }
    expect(most).toBeLessThan(30)
    expect(lastUse.get(full)).toBeLessThan(60)
    expect((await collect((await fleet.reader(base)).openStream('db'))).equals(bytes)).toBe(true)
    const needed = new Set(leans(base))
    expect([...lastUse.keys()].filter((id) => !needed.has(id)).length).toBeGreaterThan(330)
  }, 180_000)

  test('without it the same year would lean on nearly every backup: the test above proves something', () => {
    const changed = new Int32Array(500)
    for (let day = 1; day <= 365; day++) {
      const draw = seededBytes(1000 + day, 20)
      for (let n = 0; n < 5; n++) changed[draw.readUInt32LE(n * 4) % 500] = day
    }
    expect(new Set(changed).size).toBeGreaterThan(200)
  })
})
