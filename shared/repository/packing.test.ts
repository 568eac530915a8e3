import { randomBytes } from 'node:crypto'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { waitFor } from '../../test/harness/wait.ts'
import { type BlockCodec, CodecThreads } from './codec-threads.ts'
import { Directory } from './directory.ts'
import { indexKeyOf, MIB, sha256 } from './format.ts'
import { PACK_TRAILER, PackBuilder, PackOpener } from './pack.ts'
import { compress, DEEP, decode, type Effort, packChecked, WIDE, type Zstd } from './packing.mjs'
import type { StoredPack } from './repository.ts'
import { sumOf } from './sums.mjs'
import { collect, dumpLike, pieces, seededBytes } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'
import { provePack } from './whole-pack.ts'

const chunking = { kind: 'content-defined', averageBytes: 65_536 } as const
const spoiled = { code: 'internal', retry: true, message: expect.stringContaining('found before it was sent') }

const block = (bytes: Buffer, effort: Effort = 'fitting') => {
  const buffer = Buffer.allocUnsafeSlow(bytes.length)
  bytes.copy(buffer)
  return { buffer, length: bytes.length, sum: sumOf(bytes), effort }
}

function flip(bytes: Buffer, at: number): Buffer {
  ;(bytes[at] as number) ^= 1 << (at % 8)
  return bytes
}

describe('a block is opened again when it is packed', () => {
  const plain = dumpLike(1, 200_000)

  test('what comes back is what was given, compressed or as it is', () => {
    const packed = packChecked(block(plain))
    expect(packed.codec).toBe('zstd')
    const bytes = packed.buffer.subarray(0, packed.length)
    expect(decode(bytes, plain.length).equals(plain)).toBe(true)
    expect(packed.sum).toBe(sumOf(bytes))
    expect(packChecked(block(seededBytes(1, 100_000)))).toMatchObject({ codec: 'stored', length: 100_000 })
    expect(packChecked(block(plain, 'none'))).toMatchObject({ codec: 'stored', length: plain.length })
  })

  test('with deep settings what comes back is what was given, and it is smaller', () => {
    const { buffer, codec, length } = packChecked(block(plain, 'deep'))
    expect(codec).toBe('zstd')
    expect(buffer.subarray(0, length).equals(compress(plain, DEEP))).toBe(true)
    expect(length).toBeLessThan(compress(plain, WIDE).length)
    expect(packChecked(block(seededBytes(1, 100_000), 'deep'))).toMatchObject({ codec: 'stored', length: 100_000 })
  })

  test('a zstd that makes a wrong byte is found, wherever the byte stands', () => {
    for (const effort of ['fitting', 'deep'] as const) {
      const { length } = packChecked(block(plain, effort))
      for (let at = 0; at < length; at += Math.floor(length / 300)) {
        const wrong: Zstd = { compress: (bytes, settings) => flip(Buffer.from(compress(bytes, settings)), at), decode }
        expect(() => packChecked(block(plain, effort), wrong), `${effort}, at ${at}`).toThrow()
      }
    }
  })

  test('a zstd that gives a wrong byte back is found', () => {
    const wrong = { compress, decode: (bytes: Buffer, length: number) => flip(decode(bytes, length), 1234) }
    expect(() => packChecked(block(plain), wrong)).toThrow('does not decode to what was compressed')
  })

  test('a bit of the plaintext that changed in memory after its chunks were named is found', () => {
    for (let at = 0; at < plain.length; at += 997) {
      const changed = block(plain)
      flip(changed.buffer, at)
      expect(() => packChecked(changed), `at ${at}`).toThrow('has changed in memory')
    }
  })
})

describe('a pack is opened again before it is sent', () => {
  test('a wrong bit in any byte of it is found, and so are a block and a directory that are not those that were put in', async () => {
    const backup = { host: 'db1', source: 'app', id: '20260101T020000Z-0123456789' }
    const dataKey = randomBytes(32)
    const keys = { dataKey, indexKey: indexKeyOf(dataKey, backup, 1) }
    const builder = new PackBuilder(backup, 1, keys, Buffer.alloc(100_000))
    for (const [n, kind] of (['data', 'page', 'index'] as const).entries()) {
      const bytes = dumpLike(n, 3000)
      const chunks = kind === 'data' ? { lengths: Uint32Array.of(3000), names: sha256(bytes) } : NO_CHUNKS
      builder.append({ kind, packed: packChecked(block(bytes)), plainLength: 3000, ...chunks })
    }
    const pack = builder.finish()
    const prove = (bytes: Buffer, more = {}) =>
      provePack(new PackOpener({ backup, attempt: 1, object: pack.name }, keys, bytes.subarray(-PACK_TRAILER)), {
        ...pack,
        bytes,
        ...more,
      })
    await prove(pack.bytes)
    for (let at = 0; at < pack.bytes.length; at++) {
      await expect(prove(flip(Buffer.from(pack.bytes), at)), `at ${at}`).rejects.toMatchObject(spoiled)
    }
    const sums = pack.sums.with(1, sumOf(Buffer.from('another')))
    await expect(prove(pack.bytes, { sums })).rejects.toMatchObject(spoiled)
    const directory = flip(Buffer.from(pack.directory), 40)
    await expect(prove(pack.bytes, { directory })).rejects.toMatchObject(spoiled)
  })

  test('a byte that changes between packing and sealing fails the backup, and no such pack is stored', async () => {
    const fleet = await TestFleet.create()
    const threads = new CodecThreads(2)
    let blocks = 0
    const codec: BlockCodec = {
      pack: async (given) => {
        const packed = await threads.pack(given)
        if (++blocks === 5) flip(packed.buffer, packed.length - 1)
        return packed
      },
      close: () => threads.close(),
    }
    const writing = fleet.backup(0, (sink) => sink.stream({ name: 'dump', chunking }, pieces(dumpLike(1, 8 * MIB))), { codec })
    await expect(writing).rejects.toMatchObject(spoiled)
    expect(blocks).toBeGreaterThan(5)
    expect([...fleet.objects.objects.keys()].filter((key) => key.includes('/packs/'))).toEqual([])
  })
})

const NO_CHUNKS = { lengths: new Uint32Array(0), names: Buffer.alloc(0) }

describe('threads that pack', () => {
  /** How short a block becomes depends on what its thread has tried before. */
  function dataBlocks({ chunks, size }: StoredPack) {
    const directory = Directory.read(chunks.subarray(4), chunks.readUInt32LE(0), size, (what) => new Error(what))
    return Array.from({ length: directory.blocks }, (_, n) => n)
      .filter((n) => directory.kind(n) === 'data')
      .map((n) => ({ bytes: directory.plainLength(n), names: directory.chunkNames(n, 0, directory.chunksOf(n)).toString('hex') }))
  }

  test('which chunks lie in a block, and in which order, does not depend on how many threads there are', async () => {
    const fleet = await TestFleet.create()
    const bytes = Buffer.concat([dumpLike(1, 6 * MIB), seededBytes(2, 15 * MIB), dumpLike(3, 3 * MIB)])
    const written: Array<ReturnType<typeof dataBlocks>> = []
    for (const most of [1, 2, 4]) {
      const packs: StoredPack[] = []
      const manifest = await fleet.backup(most, (sink) => sink.stream({ name: 'dump', chunking }, pieces(bytes, 700_001)), {
        codec: new CodecThreads(most),
        onPackStored: async (pack) => void packs.push(pack),
      })
      expect((await collect((await fleet.reader(manifest)).openStream('dump'))).equals(bytes)).toBe(true)
      const order = manifest.facts.objects.map(({ name }) => name)
      packs.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name))
      expect(packs.length).toBeGreaterThan(1)
      written.push(packs.flatMap(dataBlocks))
    }
    expect(written[0]?.length).toBeGreaterThan(20)
    expect(written[1]).toEqual(written[0])
    expect(written[2]).toEqual(written[0])
  })

  test.each([
    ['ends', 'dead-thread.mjs'],
    ['throws', 'broken-thread.mjs'],
  ])('a thread that %s is a clear error at once, for what waits and for what comes', async (_how, program) => {
    const threads = new CodecThreads(2, new URL(`./testing/${program}`, import.meta.url))
    onTestFinished(() => threads.close())
    const big = () => block(dumpLike(1, MIB))
    const results = await Promise.allSettled([threads.pack(big()), threads.pack(big()), threads.pack(big())])
    const died = { code: 'internal', message: 'a thread that compresses has ended', retry: true }
    for (const result of results) expect(result).toMatchObject({ status: 'rejected', reason: died })
    await expect(threads.pack(big())).rejects.toMatchObject(died)
  })

  test('are all there once prepared, before any block is, and no more of them come', async () => {
    const started = new BroadcastChannel('threads of a test')
    const ids: number[] = []
    // of the browsers' interface, which has no `on`
    started.onmessage = ({ data }) => void ids.push(data as number)
    const threads = new CodecThreads(2, new URL('./testing/telling-thread.mjs', import.meta.url))
    onTestFinished(async () => {
      started.close()
      await threads.close()
    })
    threads.prepare()
    await waitFor('both threads', () => ids.length === 2)
    threads.prepare()
    const packed = await Promise.all([1, 2, 3, 4].map((seed) => threads.pack(block(dumpLike(seed, MIB)))))
    expect(packed.map(({ codec }) => codec)).toEqual(['zstd', 'zstd', 'zstd', 'zstd'])
    expect(ids.length).toBe(2)
  })

  test('are prepared for a reader of a backup that stored much, and not for one of little', async () => {
    const fleet = await TestFleet.create()
    const prepared = vi.spyOn(CodecThreads.prototype, 'prepare')
    onTestFinished(() => prepared.mockRestore())
    const calls: number[] = []
    for (const [n, mib] of [1, 17].entries()) {
      const manifest = await fleet.backup(n, (sink) => sink.stream({ name: 'dump', chunking }, pieces(seededBytes(n, mib * MIB))))
      const reader = await fleet.reader(manifest)
      calls.push(prepared.mock.calls.length)
      await reader.close()
    }
    expect(calls).toEqual([0, 1])
  })

  test('closed in the middle, nothing waits for ever', async () => {
    const threads = new CodecThreads(1)
    const waiting = Promise.allSettled([threads.pack(block(dumpLike(1, MIB))), threads.pack(block(dumpLike(2, MIB)))])
    await threads.close()
    for (const result of await waiting) expect(result).toMatchObject({ reason: { code: 'job_cancelled' } })
  })
})
