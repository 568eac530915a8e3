import { randomBytes } from 'node:crypto'
import { readdirSync, readlinkSync } from 'node:fs'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BackupSink, StreamBytes } from '../artifacts.ts'
import { HoldfastError } from '../errors.ts'
import { objectKey } from '../manifest/layout.ts'
import type { Manifest } from '../manifest/manifest.ts'
import { Secret } from '../secret.ts'
import type { BlockCodec } from './codec-threads.ts'
import { isBlurOf } from './format.ts'
import { openDataKeys } from './keys.ts'
import { OwnChunks } from './own-chunks.ts'
import type { KnownChunks, StoredPack, WriterOptions, WriterTotals } from './repository.ts'
import { sumOf } from './sums.mjs'
import { collect, contentOf, entries, file, pieces, seededBytes } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'
import { openWriter } from './writer.ts'

const chunking = { kind: 'content-defined', averageBytes: 4096 } as const
const bytes = seededBytes(1, 300_000)
const NOTHING = { counts: {}, facts: {} }

/** Stores blocks as they are, in this thread. */
class PlainCodec implements BlockCodec {
  closed = 0
  readonly lengths: number[] = []
  async pack({ buffer, length, sum }: Parameters<BlockCodec['pack']>[0]) {
    this.lengths.push(length)
    expect(sumOf(buffer.subarray(0, length))).toBe(sum)
    return { buffer, codec: 'stored', length, sum } as const
  }
  async close() {
    this.closed++
  }
}

let fleet: TestFleet
let codec: PlainCodec
/** Names of what was put, in order. */
let names: string[]
beforeAll(async () => {
  fleet = await TestFleet.create()
})
beforeEach(() => {
  codec = new PlainCodec()
  names = []
})

/** Options of a writer whose puts are noted. */
function options(more: Partial<WriterOptions> = {}): WriterOptions {
  const backup = more.backup ?? fleet.place(0)
  const sink = fleet.objects.sink(backup)
  const put: typeof sink.put = (name, body, hash, signal) => {
    names.push(name.split('-')[0] as string)
    return sink.put(name, body, hash, signal)
  }
  return fleet.options(backup, { codec, objects: { put }, ...more })
}

const stream = (name: string, content: StreamBytes = pieces(bytes)) => [{ name, chunking }, content] as const

/** What this process has open in a folder, where the kernel tells it. */
function openIn(folder: string): string[] {
  const links = (process.platform === 'linux' ? readdirSync('/proc/self/fd') : []).map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      return 'closed since'
    }
  })
  return links.filter((link) => link.startsWith(folder))
}

describe('a writer is not opened', () => {
  let full: Manifest
  let known: KnownChunks
  beforeAll(async () => {
    full = await fleet.backup(0, async () => undefined)
    known = await fleet.known(full)
    return () => known.close()
  })

  test('with another gear key than that of its base', async () => {
    const gearKey = new Secret(randomBytes(32))
    await expect(openWriter(options({ known, type: 'incremental', gearKey }))).rejects.toMatchObject({
      code: 'base_unusable',
      message: 'the gear key is not that of the base',
      hint: 'Use the key of the known list, or make a full backup.',
    })
    const same = new Secret(Buffer.from(fleet.gearKey.reveal()))
    const writer = await openWriter(options({ known, type: 'incremental', gearKey: same }))
    await writer.close()
  })

  test('as a full with a base, or as anything else without one', async () => {
    const refused = (what: string) => ({
      code: 'base_unusable',
      message: `a backup of type ${what} a base`,
      hint: 'Only a full leans on nothing.',
    })
    await expect(openWriter(options({ known, type: 'full' }))).rejects.toMatchObject(refused('full with'))
    for (const type of ['incremental', 'differential'] as const) {
      await expect(openWriter(options({ type }))).rejects.toMatchObject(refused(`${type} without`))
      await (await openWriter(options({ known, type }))).close()
    }
  })

  test('for nobody', async () => {
    await expect(openWriter(options({ recipients: [] }))).rejects.toMatchObject({
      code: 'key_missing',
      message: 'the backup has no recipient',
      hint: 'Nobody could ever open it: configure a recovery recipient.',
    })
  })

  test('over earlier packs that cannot be read; what it had begun is ended', async () => {
    async function* packs(): AsyncGenerator<StoredPack> {
      yield* []
      throw new Error('the journal is away')
    }
    const given = options({ attempt: 2, earlier: [{ attempt: 1, dataKey: new Secret(randomBytes(32)), packs: packs() }] })
    await expect(openWriter(given)).rejects.toThrow('the journal is away')
    expect(codec.closed).toBe(1)
    expect(openIn(given.scratch)).toEqual([])
  })
})

describe('a writer', () => {
  test('stores the key before the first pack, once, and everything under the name of its attempt', async () => {
    const writer = await openWriter(options({ attempt: 7 }))
    await writer.stream(...stream('a'))
    expect(names).toEqual([])
    const facts = await writer.finish(NOTHING)
    await writer.close()
    expect(names).toEqual(['keys/7', 'packs/7', 'contents/7', 'index/7'])
    expect(facts.objects.map(({ name }) => name.split('-')[0])).toEqual(names)
  })

  test('lets the length of its pack be drawn by what it is given for that', async () => {
    const drawn: string[][] = []
    const draw = () => {
      drawn.push([...names])
      return 0
    }
    const writer = await openWriter(options({ draw }))
    await writer.stream(...stream('a'))
    expect(drawn).toEqual([])
    await writer.finish(NOTHING)
    await writer.close()
    // before the pack is sealed, which is before it is stored
    expect(drawn.length).toBeGreaterThan(0)
    expect(drawn[0]).not.toContain('packs/1')
  })

  test('stores a key of a backup of nothing too', async () => {
    const given = options()
    const writer = await openWriter(given)
    const { objects } = await writer.finish(NOTHING)
    await writer.close()
    expect(objects.map(({ name }) => name)).toContain('keys/1')
    const sealed = fleet.objects.objects.get(objectKey(given.backup, 'keys/1')) as Buffer
    const opened = await openDataKeys(sealed, [fleet.identity], 'keys/1')
    expect(opened.keys.map(({ attempt, dataKey }) => [attempt, dataKey.reveal()])).toEqual([[1, given.dataKey.reveal()]])
  })

  test('counts what it read, stored, skipped and sent, and tells it', async () => {
    const told: WriterTotals[] = []
    const packs: StoredPack[] = []
    const before = fleet.objects.putBytes
    const given = options({
      onProgress: (totals) => told.push({ ...totals }),
      onPackStored: async (pack) => void packs.push(pack),
    })
    const writer = await openWriter(given)
    await writer.stream(...stream('a'))
    const first = { ...writer.totals }
    expect(first).toMatchObject({
      readBytes: bytes.length,
      storedBytes: 0,
      skippedBytes: 0,
      resentBytes: 0,
      chunksSkipped: 0,
      packs: 0,
    })
    expect(first.chunks).toBeGreaterThan(20)
    await writer.tree({ name: 't', chunking }, entries([file({ path: 'x', bytes })]))
    const { objects, stored_bytes, read_bytes } = await writer.finish(NOTHING)
    await writer.close()
    const stored = fleet.objects.putBytes - before
    expect(writer.totals).toEqual({
      readBytes: 2 * bytes.length,
      storedBytes: stored,
      skippedBytes: bytes.length,
      resentBytes: 0,
      chunks: 2 * first.chunks,
      chunksSkipped: first.chunks,
      packs: 1,
    })
    expect([stored_bytes, isBlurOf(2 * bytes.length, read_bytes)]).toEqual([stored, true])
    expect(told.at(-1)).toEqual(writer.totals)
    // when a pack has come, too
    expect(told.some(({ packs: come, storedBytes }) => come === 1 && storedBytes < stored)).toBe(true)
    expect(packs.map(({ name, size }) => ({ name, size }))).toEqual(
      objects.filter(({ name }) => name.startsWith('packs/')).map(({ name, size }) => ({ name, size })),
    )
  })

  test('tells of a pack only when whoever keeps it has done so', async () => {
    const told: number[] = []
    const kept: number[] = []
    const writer = await openWriter(
      options({
        onProgress: ({ packs }) => told.push(packs),
        onPackStored: async () => void kept.push(Math.max(...told)),
      }),
    )
    await writer.stream(...stream('a'))
    await writer.finish(NOTHING)
    await writer.close()
    expect(kept).toEqual([0])
  })

  test('settles the unit of its chunks when the first artifact begins, for all of them', async () => {
    let asked = 0
    const sourceBytes = () => {
      asked++
      return asked === 1 ? 2e12 : 0
    }
    const writer = await openWriter(options({ sourceBytes }))
    expect(asked).toBe(0)
    for (const name of ['a', 'b', 'c']) await writer.stream(...stream(name, pieces(seededBytes(name.charCodeAt(0), 400_000))))
    await writer.finish(NOTHING)
    await writer.close()
    expect(asked).toBe(1)
    // 64 KiB at least: of 4 KiB on average there would be three hundred
    expect(writer.totals.chunks).toBeLessThanOrEqual(3 * 7)
  })

  test('takes what an earlier attempt stored, and sends no byte of it again', async () => {
    const backup = fleet.place(0)
    const earlier: StoredPack[] = []
    const dataKey = new Secret(randomBytes(32))
    const inner = options({ backup, dataKey, onPackStored: async (pack) => void earlier.push(pack) })
    const put: typeof inner.objects.put = async (name, ...rest) => {
      if (name.startsWith('contents/')) throw new HoldfastError('target_unreachable', 'away')
      await inner.objects.put(name, ...rest)
    }
    const first = await openWriter({ ...inner, objects: { put } })
    await first.stream(...stream('a'))
    await expect(first.finish(NOTHING)).rejects.toMatchObject({ code: 'target_unreachable' })
    await first.close()
    names = []
    const manifest = await fleet.backup(0, (sink) => sink.stream(...stream('a')), {
      ...options({ backup }),
      attempt: 2,
      earlier: [{ attempt: 1, dataKey, packs: earlier }],
      scratch: fleet.options(backup).scratch,
    })
    expect(fleet.lastTotals).toMatchObject({ skippedBytes: bytes.length })
    expect(manifest.facts.keys.map(({ attempt }) => attempt)).toEqual([1, 2])
    expect(names.filter((name) => name === 'packs/2')).toHaveLength(1)
    const pack = manifest.facts.objects.find(({ name }) => name.startsWith('packs/2'))
    expect(pack?.size).toBeLessThan(20_000)
    expect((await collect((await fleet.reader(manifest)).openStream('a'))).equals(bytes)).toBe(true)
  })

  test('cuts everything as a policy says, where it says so', async () => {
    const writer = await openWriter(options({ chunking: { kind: 'fixed', bytes: 1000 } }))
    await writer.stream(...stream('a'))
    expect(writer.totals.chunks).toBe(300)
    await writer.close()
  })

  test('stores of what its base has only what is to be sent again, and reads no file that is as it was', async () => {
    let reads = 0
    const write = async (sink: BackupSink) => {
      await sink.stream(...stream('a'))
      const onRead = () => void reads++
      await sink.tree(
        { name: 't', chunking },
        entries([file({ path: 'x', bytes: seededBytes(2, 200_000), identity: 'same', onRead })]),
      )
    }
    const full = await fleet.backup(0, write)
    const again = await fleet.backup(1, write, { base: full })
    expect(reads).toBe(1)
    expect(fleet.lastTotals).toMatchObject({ readBytes: bytes.length, skippedBytes: 500_000, resentBytes: 0 })
    expect(again.facts.leans_on.map(({ id }) => id)).toEqual([full.facts.id])
    await fleet.backup(2, write, { base: full, resend: { backupIds: [full.facts.id], permille: 1000 } })
    expect(fleet.lastTotals).toMatchObject({ skippedBytes: 0, resentBytes: 500_000 })
    const restored: string[] = []
    for await (const entry of (await fleet.reader(again)).openTree('t'))
      restored.push(`${entry.path} ${(await contentOf(entry)).equals(seededBytes(2, 200_000))}`)
    expect(restored).toEqual(['x true'])
    const pack = full.facts.objects.find(({ name }) => name.startsWith('packs/'))?.name as string
    await fleet.backup(3, write, { base: full, damagedPacks: [objectKey(full.facts, pack)] })
    expect(fleet.lastTotals).toMatchObject({ skippedBytes: 0, resentBytes: 500_000 })
    expect(reads).toBe(3)
  })

  test('finds its own chunks again within the room that it is given for them', async () => {
    const count = async (ownChunks?: OwnChunks) => {
      const writer = await openWriter(options({ ownChunks }))
      for (const name of ['a', 'b']) await writer.stream(...stream(name))
      await writer.close()
      return writer.totals.skippedBytes
    }
    expect(await count()).toBe(bytes.length)
    expect(await count(new OwnChunks(0))).toBe(0)
  })
})

describe('names of artifacts', () => {
  test('stand once, also while the first is still read', async () => {
    const writer = await openWriter(options())
    const held = Promise.withResolvers<void>()
    async function* slow() {
      await held.promise
      yield bytes
    }
    const first = writer.stream(...stream('a "b"', slow()))
    const twice = { code: 'already_exists', message: 'there are two artifacts with the name "a \\"b\\""' }
    await expect(writer.stream(...stream('a "b"'))).rejects.toMatchObject(twice)
    await expect(writer.tree({ name: 'a "b"', chunking }, entries([]))).rejects.toMatchObject(twice)
    const unfinished = { code: 'internal', message: 'artifact "a \\"b\\"" is not finished' }
    await expect(writer.finish(NOTHING)).rejects.toMatchObject(unfinished)
    held.resolve()
    expect(await first).toEqual({ bytes: bytes.length })
    await writer.finish(NOTHING)
    await writer.close()
  })
})

describe('the end of a writer', () => {
  test('lets nothing be written after it, and no file stays open', async () => {
    const given = options()
    const writer = await openWriter(given)
    await writer.stream(...stream('a'))
    if (process.platform === 'linux') expect(openIn(given.scratch).length).toBeGreaterThan(0)
    await writer.finish(NOTHING)
    expect(openIn(given.scratch)).toEqual([])
    const finished = { code: 'internal', message: 'the writer is finished' }
    await expect(writer.finish(NOTHING)).rejects.toMatchObject(finished)
    await expect(writer.stream(...stream('b'))).rejects.toMatchObject(finished)
    expect(codec.closed).toBe(0)
    await writer.close()
    expect(codec.closed).toBe(1)
    const closed = { code: 'internal', message: 'the writer is closed' }
    await expect(writer.finish(NOTHING)).rejects.toMatchObject(closed)
    await expect(writer.tree({ name: 'c', chunking }, entries([]))).rejects.toMatchObject(closed)
    await writer.close()
  })

  test('before it has finished ends what is under way, with the reason, and no file stays open', async () => {
    const away = Promise.withResolvers<AbortSignal>()
    const given = options({
      objects: {
        put: (_name, _body, _hash, signal) => {
          away.resolve(signal)
          return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
        },
      },
    })
    const writer = await openWriter(given)
    await writer.stream(...stream('a'))
    const finishing = writer.finish(NOTHING)
    const cancelled = { code: 'job_cancelled', message: 'the writer was closed' }
    const refused = expect(finishing).rejects.toMatchObject(cancelled)
    const signal = await away.promise
    expect(signal.aborted).toBe(false)
    await writer.close()
    expect(signal.reason).toMatchObject(cancelled)
    await refused
    expect(openIn(given.scratch)).toEqual([])
  })

  test('waits for the pack that is on its way', async () => {
    const sent = Promise.withResolvers<void>()
    const held = Promise.withResolvers<void>()
    const inner = options()
    const put: typeof inner.objects.put = async (name) => {
      if (!name.startsWith('packs/')) return
      sent.resolve()
      await held.promise
    }
    const writer = await openWriter({ ...inner, objects: { put } })
    await writer.stream(...stream('a'))
    const finishing = writer.finish(NOTHING)
    const refused = expect(finishing).rejects.toMatchObject({ code: 'job_cancelled' })
    await sent.promise
    let over = false
    const closing = writer.close().then(() => {
      over = true
    })
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect(over).toBe(false)
    held.resolve()
    await closing
    await refused
  })

  test('by its job ends it with the reason of that, and nothing more is stored', async () => {
    const stop = new AbortController()
    const writer = await openWriter(options({ signal: stop.signal }))
    await writer.stream(...stream('a'))
    stop.abort(new HoldfastError('job_cancelled', 'enough'))
    const enough = { code: 'job_cancelled', message: 'enough' }
    await expect(writer.stream(...stream('b'))).rejects.toMatchObject(enough)
    await expect(writer.tree({ name: 'c', chunking }, entries([]))).rejects.toMatchObject(enough)
    await expect(writer.finish(NOTHING)).rejects.toMatchObject(enough)
    await writer.close()
    expect(names).toEqual([])
  })
})
