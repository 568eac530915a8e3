import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { TreeEntry } from '../artifacts.ts'
import { ByteReader, ByteWriter } from './bytes.ts'
import { decompress, decompressNow } from './compressor.ts'
import { Directory, writeDirectory } from './directory.ts'
import { readEntry, writeEntry } from './entries.ts'
import { damaged, LIMITS, padme, sha256, varint } from './format.ts'
import { OwnChunks } from './own-chunks.ts'
import { compress } from './packing.mjs'
import { Places } from './places.ts'
import { isRun, type Run, type RunState, readRun, START, writeRun } from './runs.ts'
import { dumpLike, seededBytes } from './testing/content.ts'

const fail = (what: string) => damaged('object', what)
const isDamaged = expect.objectContaining({ code: 'object_damaged' })

function bytesOf(entry: TreeEntry, size: number, mtimeNs: bigint): Buffer {
  const out = new ByteWriter()
  writeEntry(out, entry, size, mtimeNs)
  return out.copy()
}

const safePath = fc
  .array(
    fc
      .uint8Array({ minLength: 1, maxLength: 12 })
      .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0 || byte === 47 || byte === 46 ? 65 : byte)))),
    { minLength: 1, maxLength: 4 },
  )
  .map((segments) => Buffer.concat(segments.flatMap((segment, n) => (n > 0 ? [Buffer.from('/'), segment] : [segment]))))

describe('records', () => {
  test('numbers: written and read they are the same, and no longer than nine bytes', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: Number.MAX_SAFE_INTEGER })), (values) => {
        const out = new ByteWriter(4)
        for (const value of values) out.varint(value)
        const reader = new ByteReader(out.copy(), fail)
        expect(values.map(() => reader.varint())).toEqual(values)
        for (const value of values) expect(varint(value).length).toBeLessThanOrEqual(8)
      }),
    )
    expect(() => new ByteReader(Buffer.alloc(20, 255), fail).varint()).toThrow(isDamaged)
    expect(() => new ByteReader(Buffer.from([200]), fail).varint()).toThrow(isDamaged)
    expect(() => new ByteReader(varint(1000), fail).varint(999)).toThrow(isDamaged)
  })

  test('runs: written and read they are the same', () => {
    const run = fc.record({
      origin: fc.nat({ max: 1000 }),
      pack: fc.nat({ max: 3 }),
      block: fc.nat({ max: 5 }),
      first: fc.nat({ max: 2000 }),
      count: fc.integer({ min: 1, max: 2000 }),
    })
    fc.assert(
      fc.property(fc.array(run), (runs) => {
        const out = new ByteWriter()
        let state: RunState = START
        for (const one of runs) state = writeRun(out, one, state)
        const reader = new ByteReader(out.copy(), fail)
        const back: Run[] = []
        state = START
        while (reader.left > 0) {
          const tag = reader.u8()
          expect(isRun(tag)).toBe(true)
          state = readRun(reader, tag, state)
          back.push(state)
        }
        expect(back).toEqual(runs)
      }),
    )
  })

  test('a run that follows the one before costs one byte', () => {
    const out = new ByteWriter()
    const before = { origin: 2, pack: 9, block: 7, first: 3, count: 1 }
    writeRun(out, { ...before, first: 4 }, before)
    expect(out.length).toBe(1)
  })

  test('entries: written and read they are the same', () => {
    const bytes = fc.uint8Array({ minLength: 1, maxLength: 20 }).map((some) => Buffer.from(some.map((byte) => byte || 1)))
    const entry = fc.record({
      path: safePath,
      type: fc.constantFrom('file', 'directory', 'fifo', 'socket', 'char-device', 'block-device') as fc.Arbitrary<
        TreeEntry['type']
      >,
      mode: fc.nat({ max: 0o7777 }),
      uid: fc.nat({ max: 0xffff_ffff }),
      gid: fc.nat({ max: 0xffff_ffff }),
      mtimeNs: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      size: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
      linkTarget: fc.constant(undefined),
      hardLinkTo: fc.option(safePath, { nil: undefined }),
      device: fc.option(fc.record({ major: fc.nat(4000), minor: fc.nat(4000) }), { nil: undefined }),
      xattrs: fc.option(fc.array(fc.record({ name: bytes, value: bytes }), { minLength: 1, maxLength: 4 }), { nil: undefined }),
    })
    fc.assert(
      fc.property(entry, (one) => {
        expect(readEntry(bytesOf(one, one.size, one.mtimeNs), fail)).toEqual(one)
      }),
    )
  })

  test('a path that could leave the tree is refused, however it is written', () => {
    const plain: TreeEntry = { path: Buffer.from('a'), type: 'file', mode: 0, uid: 0, gid: 0, mtimeNs: 0n, size: 0 }
    for (const path of ['/etc/passwd', '../x', 'a/../../x', 'a//b', 'a/', './a', '.', '..', 'a\0b']) {
      const bytes = bytesOf({ ...plain, path: Buffer.from(path) }, 0, 0n)
      expect(() => readEntry(bytes, fail), path).toThrow(isDamaged)
      const link = bytesOf({ ...plain, hardLinkTo: Buffer.from(path) }, 0, 0n)
      expect(() => readEntry(link, fail), path).toThrow(isDamaged)
    }
  })

  test('no bytes make a decoder do anything but answer or throw object_damaged', () => {
    const entry = bytesOf({ path: Buffer.from('a/b'), type: 'file', mode: 1, uid: 1, gid: 1, mtimeNs: 1n, size: 1 }, 1, 1n)
    const directory = writeDirectory([
      {
        kind: 'data',
        codec: 'zstd',
        sealedLength: 50,
        plainLength: 30,
        lengths: Uint32Array.of(10, 20),
        names: seededBytes(1, 64),
      },
    ])
    const decoders: Array<[Buffer, (bytes: Buffer) => unknown]> = [
      [entry, (bytes) => readEntry(bytes, fail)],
      [directory, (bytes) => Directory.read(bytes, 1, 1000, fail)],
      [directory, (bytes) => Directory.read(bytes, bytes[0] as number, 1000, fail)],
    ]
    fc.assert(
      fc.property(fc.nat(), fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.boolean(), (at, noise, insert) => {
        for (const [bytes, decode] of decoders) {
          const place = at % bytes.length
          const rest = insert ? bytes.subarray(place) : bytes.subarray(place + noise.length)
          const mutated = Buffer.concat([bytes.subarray(0, place), noise, rest])
          try {
            decode(mutated)
          } catch (error) {
            expect(error).toMatchObject({ code: 'object_damaged' })
          }
        }
      }),
      { numRuns: 2000 },
    )
  })
})

describe('compression', () => {
  test('a frame that decodes to more or to less than is said is damaged, and never fills more memory than that', async () => {
    const bomb = { codec: 'zstd', bytes: compress(Buffer.alloc(3_000_000)) } as const
    expect(bomb.bytes.length).toBeLessThan(1000)
    expect(await decompress(bomb, 3_000_000, fail)).toHaveLength(3_000_000)
    for (const length of [10, 2_999_999, 3_000_001, LIMITS.block])
      await expect(decompress(bomb, length, fail)).rejects.toEqual(isDamaged)
    await expect(decompress({ codec: 'zstd', bytes: bomb.bytes.subarray(0, -3) }, 3_000_000, fail)).rejects.toEqual(isDamaged)
    await expect(decompress({ codec: 'zstd', bytes: seededBytes(1, 100) }, 100, fail)).rejects.toEqual(isDamaged)
    await expect(decompress({ codec: 'stored', bytes: seededBytes(1, 100) }, 99, fail)).rejects.toEqual(isDamaged)
  })

  test('whatever byte of a frame changes, what comes has the length that is said, or it is damaged', async () => {
    const frame = compress(dumpLike(1, 3000))
    let refused = 0
    for (let at = 0; at < frame.length; at++) {
      const bytes = Buffer.from(frame)
      bytes[at] = (bytes[at] as number) ^ 0x55
      const later = decompress({ codec: 'zstd', bytes }, 3000, fail).then(
        (plain) => plain.toString('latin1'),
        (error: unknown) => void expect(error).toEqual(isDamaged),
      )
      try {
        const plain = decompressNow(bytes, 3000, fail)
        expect(plain).toHaveLength(3000)
        expect(await later).toBe(plain.toString('latin1'))
      } catch (error) {
        expect(error).toEqual(isDamaged)
        expect(await later).toBeUndefined()
        refused++
      }
    }
    expect(refused).toBeGreaterThan(50)
  })
})

describe('Padmé', () => {
  test('it never shortens, is its own rounding, and adds 3.2 % at most from 64 KiB on', () => {
    fc.assert(
      fc.property(fc.nat({ max: 2 ** 40 }), (length) => {
        const padded = padme(length)
        expect(padded).toBeGreaterThanOrEqual(length)
        expect(padme(padded)).toBe(padded)
        if (length >= 65_536) expect(padded / length).toBeLessThanOrEqual(1.032)
      }),
    )
    expect([0, 1, 2, 9, 100, 1000, 65_537, 1_000_000].map(padme)).toEqual([0, 1, 2, 10, 104, 1024, 67_584, 1_015_808])
  })
})

describe('tables in memory', () => {
  test('own chunks are found by their whole name, through growth, up to the cap', () => {
    const own = new OwnChunks(20_000)
    const names = Array.from({ length: 20_001 }, (_, n) => sha256(Buffer.from(String(n))))
    names.forEach((name, n) => {
      own.add(name, n, n % 4000)
    })
    for (const n of [0, 1, 4095, 4096, 12_345, 19_999]) expect(own.get(names[n] as Buffer)).toEqual({ ref: n, index: n % 4000 })
    expect(own.get(names[20_000] as Buffer)).toBeNull()
    const near = Buffer.from(names[7] as Buffer)
    near[31] = (near[31] as number) ^ 1
    expect(own.get(near)).toBeNull()
  })

  test('used chunks of blocks are exactly those that were marked', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(9), fc.nat(30), fc.integer({ min: 1, max: 9 })), { maxLength: 60 }), (marks) => {
        const places = new Places(Array.from({ length: 5 }, () => 40))
        for (let n = 5; n < 10; n++) places.place(places.begin(), 0, n, 40)
        const expected = new Set<string>()
        for (const [ref, first, count] of marks) {
          places.markUsed(ref, first, count)
          for (let n = first; n < first + count; n++) expected.add(`${ref} ${n}`)
        }
        const found = new Set<string>()
        for (let ref = 0; ref < 10; ref++) {
          for (const { first, count } of places.usedRuns(ref))
            for (let n = first; n < first + count; n++) found.add(`${ref} ${n}`)
        }
        expect(found).toEqual(expected)
      }),
    )
    expect(() => new Places([4]).markUsed(0, 2, 3)).toThrow(RangeError)
  })
})
