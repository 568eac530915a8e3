import { setImmediate as turn } from 'node:timers/promises'
import { beforeEach, describe, expect, test } from 'vitest'
import type { BackupSink } from '../artifacts.ts'
import { manifestSha256 } from '../manifest/canonical.ts'
import { objectKey } from '../manifest/layout.ts'
import type { Manifest } from '../manifest/manifest.ts'
import { indexKeyOf, MIB, sha256 } from './format.ts'
import { openDataKeys } from './keys.ts'
import { openParts } from './opened.ts'
import { PACK_TRAILER, PackOpener } from './pack.ts'
import { packChecked } from './packing.mjs'
import type { ObjectSink } from './repository.ts'
import { entries, file, pieces, seededBytes } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'
import { openWholePack } from './whole-pack.ts'
import { openWriter } from './writer.ts'

const chunking = { kind: 'content-defined', averageBytes: 4096 } as const
const pages = { kind: 'fixed', bytes: 1024 } as const

let fleet: TestFleet
beforeEach(async () => {
  fleet = await TestFleet.create()
})

/** Every block of data of a backup, opened. */
async function dataBlocks({ facts }: Manifest): Promise<Array<{ plain: Buffer; chunks: number }>> {
  const keys = fleet.objects.objects.get(objectKey(facts, 'keys/1')) as Buffer
  const [row] = (await openDataKeys(keys, [fleet.identity], 'keys/1')).keys
  if (!row) throw new Error('no key')
  const dataKey = row.dataKey.reveal()
  const blocks: Array<{ plain: Buffer; chunks: number }> = []
  for (const { name } of facts.objects) {
    if (!name.startsWith('packs/')) continue
    const bytes = fleet.objects.objects.get(objectKey(facts, name)) as Buffer
    const opener = new PackOpener(
      { backup: facts, attempt: 1, object: name },
      { dataKey, indexKey: indexKeyOf(dataKey, facts, 1) },
      bytes.subarray(-PACK_TRAILER),
    )
    const directory = await openWholePack(opener, bytes)
    for (let n = 0; n < directory.blocks; n++) {
      if (directory.kind(n) !== 'data') continue
      const plain = await opener.block(directory, n, bytes.subarray(directory.offset(n), directory.end(n)))
      blocks.push({ plain, chunks: directory.chunksOf(n) })
    }
  }
  return blocks
}

describe('blocks', () => {
  test('a block holds chunks of one artifact only, and at most about 1 MiB', async () => {
    const streams = [1, 2, 3].map((seed) => seededBytes(seed, 2_500_000))
    // in turn, so that their chunks come mixed
    const manifest = await fleet.backup(0, (sink) =>
      Promise.all(streams.map((bytes, n) => sink.stream({ name: `s${n}`, chunking }, pieces(bytes, 5000)))),
    )
    const blocks = await dataBlocks(manifest)
    expect(blocks.reduce((sum, { plain }) => sum + plain.length, 0)).toBe(7_500_000)
    expect(blocks.length).toBeGreaterThan(6)
    for (const { plain } of blocks) {
      expect(plain.length).toBeLessThanOrEqual(MIB)
      // random bytes: what stands in one of them, as one piece, stands in no other
      expect(streams.filter((bytes) => bytes.includes(plain))).toHaveLength(1)
    }
  })

  test('tiny files of a tree are grouped in one', async () => {
    const files = Array.from({ length: 300 }, (_, n) => file({ path: `f${n}`, bytes: seededBytes(n, 100) }))
    const manifest = await fleet.backup(0, (sink) => sink.tree({ name: 't', chunking }, entries(files)))
    expect((await dataBlocks(manifest)).map(({ chunks }) => chunks)).toEqual([300])
  })
})

describe('packs', () => {
  test('what packs and blocks were made in is given back before the list of known chunks is written', async () => {
    const backup = fleet.place(0)
    const sink = fleet.objects.sink(backup)
    const packs: Buffer[] = []
    const blocks: Buffer[] = []
    const options = fleet.options(backup, {
      objects: {
        put: async (name, bytes, hash, signal) => {
          if (name.startsWith('packs/')) packs.push(bytes)
          await sink.put(name, bytes, hash, signal)
        },
      },
      codec: {
        pack: async (block) => {
          blocks.push(block.buffer)
          return packChecked(block)
        },
        close: async () => undefined,
      },
    })
    const writer = await openWriter(options)
    try {
      await writer.stream({ name: 's', chunking }, pieces(seededBytes(1, 20 * MIB), MIB))
      const given = () => [...packs, ...blocks].map(({ buffer }) => buffer.byteLength)
      expect(given().every((length) => length > 0)).toBe(true)
      await writer.finish({ counts: { all: 1 }, facts: {} })
      expect(packs).toHaveLength(2)
      expect(new Set(given())).toEqual(new Set([0]))
    } finally {
      await writer.close()
    }
  })

  test('of 16 MiB, one open and two on their way: a source is held back while the store takes none', async () => {
    const held: Array<() => void> = []
    let pulled = 0
    let confirmed = 0
    const peak = { puts: 0, waiting: 0 }
    let underWay = 0
    const objects: ObjectSink = {
      put: async (name, bytes) => {
        if (!name.startsWith('packs/')) return
        underWay += 1
        peak.puts = Math.max(peak.puts, underWay)
        await new Promise<void>((resolve) => held.push(resolve))
        underWay -= 1
        confirmed += bytes.length
        expect(bytes.length).toBeLessThanOrEqual(17 * MIB)
      },
    }
    async function* source() {
      for (let n = 0; n < 120; n++) {
        pulled += MIB
        peak.waiting = Math.max(peak.waiting, pulled - confirmed)
        yield seededBytes(n, MIB)
      }
    }
    const writer = await openWriter(fleet.options(fleet.place(0), { objects }))
    const done = writer
      .stream({ name: 'dump', chunking: { kind: 'fixed', bytes: 65_536 } }, source())
      .then(() => writer.finish({ counts: {}, facts: {} }))
    const state = { over: false }
    const over = done.finally(() => {
      state.over = true
    })
    // the store answers only when the source has not been asked for a long time: nothing else could go on
    for (let idle = 0, seen = -1; !state.over; await turn()) {
      idle = pulled === seen ? idle + 1 : 0
      seen = pulled
      if (idle > 2000) {
        held.shift()?.()
        idle = 0
      }
    }
    await over
    await writer.close()
    expect(pulled).toBe(120 * MIB)
    expect(peak.puts).toBe(2)
    // two on their way, one open, one that is full and waits for its turn, and what is being compressed
    expect(peak.waiting).toBeLessThan(80 * MIB)
  })

  test('one that was never confirmed is never opened again for sealing', async () => {
    const backup = fleet.place(0)
    const names: string[] = []
    const away: ObjectSink = {
      put: async (name) => {
        names.push(name)
        if (name.startsWith('packs/')) throw new Error('the reply is lost')
      },
    }
    const bytes = seededBytes(1, 2_000_000)
    const writer = await openWriter(fleet.options(backup, { objects: away }))
    await expect(
      writer.stream({ name: 'dump', chunking }, pieces(bytes)).then(() => writer.finish({ counts: {}, facts: {} })),
    ).rejects.toThrow('the reply is lost')
    await writer.close()
    const lost = names.filter((name) => name.startsWith('packs/'))
    expect(lost).toHaveLength(1)
    const manifest = await fleet.backup(0, (sink) => sink.stream({ name: 'dump', chunking }, pieces(bytes)), {
      backup,
      attempt: 2,
    })
    const used = manifest.facts.objects.map(({ name }) => name)
    expect(used.filter((name) => lost.includes(name))).toEqual([])
    expect(used.filter((name) => name.startsWith('packs/')).every((name) => name.startsWith('packs/2-'))).toBe(true)
  })
})

describe('what is written of a backup', () => {
  const unchanged = async (size: number): Promise<{ stored: number; chunks: number }> => {
    const own = await TestFleet.create()
    const bytes = seededBytes(7, size)
    const write = (sink: BackupSink) => sink.stream({ name: 'pages', chunking: pages }, pieces(bytes))
    const full = await own.backup(0, write)
    const next = await own.backup(1, write, { base: full })
    return { stored: next.facts.stored_bytes, chunks: own.lastTotals?.chunks ?? 0 }
  }

  test('contents do not grow with the whole source: names stand once, and runs are a few bytes a block', async () => {
    const small = await unchanged(2 * MIB)
    const large = await unchanged(18 * MIB)
    expect([small.chunks, large.chunks]).toEqual([2048, 18 * 1024])
    // 16 MiB more in pages of 1 KiB: their names alone would be half a megabyte
    expect(large.stored - small.stored).toBeLessThan(4096)
  })

  test('sealed contents repeat the gear key', async () => {
    const manifest = await fleet.backup(0, (sink) => sink.stream({ name: 'dump', chunking }, pieces(seededBytes(1, 50_000))))
    const { contents } = await openParts(await fleet.readerOptions(manifest))
    expect(contents.head.gear_key).toBe(fleet.gearKey.reveal().toString('hex'))
  })

  test('the facts carry the hash of contents, of every pack and key, and of the manifests leaned on', async () => {
    const bytes = seededBytes(1, 300_000)
    const write = (more: Buffer) => (sink: BackupSink) =>
      sink.stream({ name: 'dump', chunking }, pieces(Buffer.concat([bytes, more])))
    const full = await fleet.backup(0, write(Buffer.alloc(0)))
    const { facts } = await fleet.backup(1, write(seededBytes(2, 50_000)), { base: full })
    const stored = [...fleet.objects.objects.keys()].filter((key) => key.includes(facts.id) && !key.endsWith('manifest.json'))
    expect(facts.objects.map(({ name }) => objectKey(facts, name)).sort()).toEqual(stored.sort())
    for (const { name, size, sha256: hash } of facts.objects) {
      const object = fleet.objects.objects.get(objectKey(facts, name)) as Buffer
      expect({ name, size, hash }).toEqual({ name, size: object.length, hash: sha256(object).toString('hex') })
    }
    const { host, source, id } = full.facts
    expect(facts.leans_on).toEqual([{ host, source, id, manifest_sha256: manifestSha256(full) }])
  })
})
