import { createHash } from 'node:crypto'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { waitFor } from '../../test/harness/wait.ts'
import type { BackupSink, TreeOutput } from '../artifacts.ts'
import { HoldfastError } from '../errors.ts'
import { objectKey } from '../manifest/layout.ts'
import type { Manifest } from '../manifest/manifest.ts'
import type { BlockSource, OpenBlock } from './block-source.ts'
import type { BodyRecord } from './body-reader.ts'
import { ByteCache } from './byte-cache.ts'
import { CodecThreads } from './codec-threads.ts'
import { MIB, sha256 } from './format.ts'
import { openParts } from './opened.ts'
import { ReadAhead } from './read-ahead.ts'
import { openReader } from './reader.ts'
import type { BackupReader, ObjectSource } from './repository.ts'
import { collect, contentOf, dumpLike, entries, file, pieces, seededBytes } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'

const chunking = { kind: 'content-defined', averageBytes: 65_536 } as const

/** More than all that is held at a time. */
const WHOLE = 48 * MIB
const FILES = 60
const contentsOf = (n: number) => (n % 3 === 0 ? dumpLike(n, 700_000 + n) : seededBytes(n, 500_000 + n * 999))
/** Sealed bytes ahead, what is open, and as much again as a range may overshoot. */
const AT_MOST = 18 * MIB

let fleet: TestFleet
let manifest: Manifest
beforeAll(async () => {
  fleet = await TestFleet.create()
  const list = Array.from({ length: FILES }, (_, n) => file({ path: `file ${n}`, bytes: contentsOf(n) }))
  manifest = await fleet.backup(0, async (sink) => {
    await sink.stream({ name: 'stream', chunking }, pieces(seededBytes(1, WHOLE)))
    await sink.tree({ name: 'tree', chunking }, entries(list))
  })
})

async function open(): Promise<BackupReader> {
  const reader = await fleet.reader(manifest)
  onTestFinished(() => reader.close())
  fleet.objects.gets = []
  return reader
}

const fetched = () => fleet.objects.gets.reduce((sum, { length }) => sum + length, 0)

async function treeOf(reader: BackupReader): Promise<TreeOutput[]> {
  const all: TreeOutput[] = []
  for await (const entry of reader.openTree('tree')) all.push(entry)
  return all
}

describe('a backup is read ahead of who uses it', () => {
  test('what is held is bounded, whatever the size: a reader who stops has had no more fetched than that', async () => {
    const reader = await open()
    const stream = reader.openStream('stream')[Symbol.asyncIterator]()
    const first = await stream.next()
    expect(sha256(first.value)).toEqual(sha256(seededBytes(1, WHOLE).subarray(0, first.value.length)))
    await waitFor('what comes ahead', () => fetched() > 8 * MIB)
    // fetches from memory need no more than turns of the loop
    for (let turn = 0; turn < 1000; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect(fetched()).toBeLessThan(AT_MOST)
    await stream.return?.()
  })

  test('content that nobody asks for is not fetched', async () => {
    const reader = await open()
    expect(await treeOf(reader)).toHaveLength(FILES)
    expect(fetched()).toBeLessThan(MIB)
    const chosen: Buffer[] = []
    for await (const entry of reader.openTree('tree', ({ path }) => path.toString() === 'file 30'))
      chosen.push(await contentOf(entry))
    expect(chosen.map((bytes) => bytes.equals(contentsOf(30)))).toEqual([true])
    expect(fetched()).toBeLessThan(4 * MIB)
  })

  test('neighbours come in one range, each of them once', async () => {
    const reader = await open()
    for await (const _ of reader.openStream('stream'));
    const packs = fleet.objects.gets.filter(({ length }) => length > 300_000)
    expect(fetched()).toBeLessThan(WHOLE * 1.05)
    expect(packs.length).toBeLessThan(32)
  })

  test('blocks that are wanted in parts, with newer ones of another pack between them, come in one range with their neighbours', async () => {
    const whole = dumpLike(7, 24 * MIB)
    const pages = { kind: 'fixed', bytes: 65_536 } as const
    const write = (sink: BackupSink) => sink.stream({ name: 'table', chunking: pages }, pieces(whole))
    const base = await fleet.backup(2, write)
    // a page in the middle of each block
    for (let at = MIB / 2; at < whole.length; at += MIB) seededBytes(at, 65_536).copy(whole, at)
    const reader = await fleet.reader(await fleet.backup(3, write, { base }))
    onTestFinished(() => reader.close())
    fleet.objects.gets = []
    const hash = createHash('sha256')
    for await (const bytes of reader.openStream('table')) hash.update(bytes)
    expect(hash.digest()).toEqual(sha256(whole))
    const stored = base.facts.objects.reduce((sum, { size }) => sum + size, 0)
    const ofBase = fleet.objects.gets.filter(({ key, length }) => key.includes(base.facts.id) && length > 70_000)
    expect(ofBase.length).toBeLessThan(8)
    expect(ofBase.reduce((sum, { length }) => sum + length, 0)).toBeLessThan(stored * 1.05)
  })

  test('every file comes back in order, however much of it was read', async () => {
    const reader = await open()
    let n = 0
    for await (const entry of reader.openTree('tree')) {
      const expected = contentsOf(n)
      // a third is left out, a third is left in the middle
      if (n % 3 === 1) for await (const { bytes } of entry.read?.() ?? []) if (bytes.length > 0) break
      if (n % 3 === 2) expect((await contentOf(entry)).equals(expected), entry.path.toString()).toBe(true)
      n++
    }
    expect(n).toBe(FILES)
  })

  test('files that are read when others have been asked for, or all at a time, or twice, are those files', async () => {
    const reader = await open()
    const waiting: Array<Promise<boolean>> = []
    let n = 0
    for await (const entry of reader.openTree('tree')) {
      const expected = contentsOf(n++)
      waiting.push(contentOf(entry).then((bytes) => bytes.equals(expected)))
      if (n % 7 === 0) waiting.push(contentOf(entry).then((bytes) => bytes.equals(expected)))
    }
    expect(new Set(await Promise.all(waiting))).toEqual(new Set([true]))
    for (const [at, entry] of (await treeOf(reader)).entries()) {
      if (at % 5 === 0) expect((await contentOf(entry)).equals(contentsOf(at))).toBe(true)
    }
  })

  test('a piece is given back when the one after the next is asked for, and the last two are left to who ends', async () => {
    const [released, left]: [number[], number[]] = [[], []]
    const plain = Buffer.from('x')
    const directory = { chunkName: () => sha256(plain), chunkNames: () => sha256(plain) }
    const open = { pack: { directory }, plain, ends: Uint32Array.of(1), hashes: sha256(plain) } as unknown as OpenBlock
    const blocks = {
      prepare: async () => 0,
      hold: (_origin: number, _pack: number, block: number) => ({
        value: Promise.resolve(open),
        release: () => released.push(block),
        leave: () => left.push(block),
      }),
    } as unknown as BlockSource
    async function* records(): AsyncGenerator<BodyRecord> {
      for (let block = 0; block < 5; block++) yield { kind: 'run', run: { origin: 0, pack: 0, block, first: 0, count: 1 } }
    }
    const ahead = new ReadAhead(blocks, records())
    const seen: number[][] = []
    for await (const _ of ahead.content()) seen.push([...released])
    expect(seen).toEqual([[], [], [0], [0, 1], [0, 1, 2]])
    await ahead.close()
    expect([released, left]).toEqual([
      [0, 1, 2],
      [3, 4],
    ])
  })

  test('memory that is given back by hand is nobody’s any more: streams and trees at a time, and pieces that are kept', async () => {
    const reader = await open()
    const [stream, , ...trees] = await Promise.all([
      collect(reader.openStream('stream')),
      keptPieces(reader),
      ...[0, 1].map(async () => {
        const wrong: number[] = []
        let n = 0
        for await (const entry of reader.openTree('tree')) {
          if (!(await contentOf(entry)).equals(contentsOf(n))) wrong.push(n)
          n++
        }
        return wrong
      }),
    ])
    expect(stream.equals(seededBytes(1, WHOLE))).toBe(true)
    expect(trees).toEqual([[], []])
  })

  test('what lies before a damaged page of a body is given out, and then the pack is named', async () => {
    const small = await TestFleet.create()
    const list = Array.from({ length: 9000 }, (_, n) =>
      file({ path: `a long enough name of a small file ${n}`, bytes: seededBytes(n, 9) }),
    )
    const of = await small.backup(0, (sink) => sink.tree({ name: 'tree', chunking }, entries(list)))
    const options = await small.readerOptions(of)
    const parts = await openParts(options)
    const { body } = await parts.contents.find('tree', 'tree')
    const [, [pack, block] = [0, 0]] = 'pages' in body ? body.pages : []
    const { key, directory } = await parts.blocks.pack(0, pack)
    const bytes = small.objects.objects.get(key) as Buffer
    ;(bytes[directory.offset(block) + 9] as number) ^= 1
    await parts.close()
    const reader = await openReader(options)
    onTestFinished(() => reader.close())
    let given = 0
    const reading = async () => {
      for await (const entry of reader.openTree('tree')) given += (await contentOf(entry)).length / 9
    }
    await expect(reading()).rejects.toMatchObject({ code: 'object_damaged', context: { key } })
    expect(given).toBeGreaterThan(1000)
    expect(given).toBeLessThan(9000)
  })

  test('a range that could not be fetched is asked for again by who wants a block of it later', async () => {
    const options = await fleet.readerOptions(manifest)
    let failing = true
    const objects: ObjectSource = {
      get: async (key, range, signal) => {
        if (failing && (range?.length ?? 0) > 300_000) throw new HoldfastError('target_unreachable', `${key}: the line is cut`)
        return fleet.objects.get(key, range, signal)
      },
    }
    const reader = await openReader({ ...options, objects })
    onTestFinished(() => reader.close())
    const isWhole = async () => (await collect(reader.openStream('stream'))).equals(seededBytes(1, WHOLE))
    await expect(isWhole()).rejects.toMatchObject({ code: 'target_unreachable' })
    failing = false
    expect(await isWhole()).toBe(true)
  })

  test('a missing pack fails what needs it with its name, and what comes before is given out', async () => {
    const packs = manifest.facts.objects.filter(({ name }) => name.startsWith('packs/'))
    const key = objectKey(manifest.facts, packs[1]?.name ?? '')
    const bytes = fleet.objects.objects.get(key) as Buffer
    fleet.objects.objects.delete(key)
    onTestFinished(() => void fleet.objects.objects.set(key, bytes))
    const reader = await open()
    let given = 0
    const reading = async () => {
      for await (const piece of reader.openStream('stream')) given += piece.length
    }
    await expect(reading()).rejects.toMatchObject({ code: 'object_missing', context: { key } })
    expect(given).toBeGreaterThan(10 * MIB)
  })
})

/** Someone who keeps what a stream gave. */
async function keptPieces(reader: BackupReader): Promise<void> {
  const kept: Buffer[] = []
  for await (const piece of reader.openStream('stream')) kept.push(piece)
  expect(Buffer.concat(kept).equals(seededBytes(1, WHOLE))).toBe(true)
}

describe('no byte of a chunk is given out before the chunk was compared with its name', () => {
  /** The reader of a block as someone wrote it who knew the keys: sealed well, and not what the directory says. */
  test('a chunk that is another than its name says fails with the pack’s name, and nothing of its piece comes', async () => {
    const options = await fleet.readerOptions(manifest)
    const spoiling = new CodecThreads(1)
    onTestFinished(() => spoiling.close())
    const reader = await openReader(options, {
      open: async (content) => {
        const opened = await spoiling.open(content)
        // what a decoder that works wrongly gives
        opened.names[5] = (opened.names[5] as number) ^ 1
        return opened
      },
      close: () => spoiling.close(),
    })
    const given: Buffer[] = []
    const reading = async () => {
      for await (const piece of reader.openStream('stream')) given.push(piece)
    }
    await expect(reading()).rejects.toMatchObject({
      code: 'object_damaged',
      message: expect.stringMatching(/packs\/.*chunk 0 of block \d+ is not what its name says/),
    })
    expect(given).toEqual([])
  })
})

describe('threads that open', () => {
  const sealedBlock = (plain: Buffer, lengths: number[]) => {
    let at = 0
    const ends = Uint32Array.from(lengths, (length) => {
      at += length
      return at
    })
    return { packed: Buffer.from(plain), codec: 'stored', ends } as const
  }

  test('give the plaintext and the hash of each chunk, here and in a thread', async () => {
    const threads = new CodecThreads(2)
    onTestFinished(() => threads.close())
    for (const size of [1000, MIB]) {
      const plain = seededBytes(size, size)
      const { plain: opened, names } = await threads.open(sealedBlock(plain, [100, size - 100]))
      expect(opened.equals(plain)).toBe(true)
      expect(names.equals(Buffer.concat([sha256(plain.subarray(0, 100)), sha256(plain.subarray(100))]))).toBe(true)
    }
  })

  test('a block that is longer or shorter than is said, or no frame, is refused', async () => {
    const threads = new CodecThreads(1)
    onTestFinished(() => threads.close())
    const plain = seededBytes(1, MIB)
    await expect(threads.open(sealedBlock(plain, [MIB - 1]))).rejects.toThrow('a block decodes to')
    await expect(threads.open(sealedBlock(plain, [MIB + 1]))).rejects.toThrow('a block decodes to')
    await expect(threads.open({ ...sealedBlock(plain, [MIB]), codec: 'zstd' })).rejects.toThrow()
    // and goes on working
    expect((await threads.open(sealedBlock(plain, [MIB]))).plain.equals(plain)).toBe(true)
  })

  test('one that dies says nothing against the store', async () => {
    const threads = new CodecThreads(1, new URL('./testing/dead-thread.mjs', import.meta.url))
    onTestFinished(() => threads.close())
    const reader = await openReader(await fleet.readerOptions(manifest), threads)
    await expect(collect(reader.openStream('stream'))).rejects.toMatchObject({ code: 'internal', retry: true })
  })
})

describe('what a cache gives back', () => {
  const made = (value: string) => async () => ({ value, bytes: 10 })

  test('is what nobody holds and nobody was lent, oldest first', async () => {
    const freed: string[] = []
    const cache = new ByteCache<string>(20, (value) => freed.push(value))
    const held = cache.hold('held', made('held'))
    await cache.get('lent', made('lent'))
    const left = cache.hold('left', made('left'))
    await left.value
    left.leave()
    const done = cache.hold('done', made('done'))
    await done.value
    done.release()
    expect(freed).toEqual([])
    const last = cache.hold('last', made('last'))
    await last.value
    last.release()
    expect([cache.has('held'), cache.has('lent'), cache.has('left'), cache.has('done')]).toEqual([true, false, false, false])
    expect(freed).toEqual(['done'])
    held.release()
  })

  test('what is asked for again while it is held stays for the second holder', async () => {
    const freed: string[] = []
    const cache = new ByteCache<string>(0, (value) => freed.push(value))
    const [first, second] = [cache.hold('a', made('a')), cache.hold('a', made('b'))]
    expect(await Promise.all([first.value, second.value])).toEqual(['a', 'a'])
    first.release()
    expect(freed).toEqual([])
    second.release()
    expect(freed).toEqual(['a'])
  })
})
