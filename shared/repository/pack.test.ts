import { beforeEach, describe, expect, test } from 'vitest'
import { directoryBytes, writeDirectory } from './directory.ts'
import { type BlockKind, indexKeyOf, LIMITS, MIB, NUMBER, packDataKey, packIndexKey, padme, padmeStep, sha256 } from './format.ts'
import { type FinishedPack, type PackBlock, PackBuilder, PackOpener } from './pack.ts'
import { seal, unseal } from './sealer.ts'
import { sumOf } from './sums.mjs'
import { seededBytes } from './testing/content.ts'
import { hashPack, openWholePack, provePack } from './whole-pack.ts'

const backup = { host: 'db1', source: 'app', id: '20260101T020000Z-0123456789' }
const dataKey = seededBytes(1, 32)
const keys = { dataKey, indexKey: indexKeyOf(dataKey, backup, 3) }
/** Header, footer with its salt. */
const AROUND = 8 + 64
const TAG = 16

function block(kind: BlockKind, plain: Buffer, lengths: readonly number[] = kind === 'data' ? [plain.length] : []): PackBlock {
  let at = 0
  const names = lengths.map((length) => sha256(plain.subarray(at, (at += length))))
  return {
    kind,
    packed: { buffer: Buffer.concat([plain, Buffer.alloc(9, 0xee)]), codec: 'stored', length: plain.length, sum: sumOf(plain) },
    plainLength: plain.length,
    lengths: Uint32Array.from(lengths),
    names: Buffer.concat(names),
  }
}

const blocks = [
  block('data', seededBytes(2, 3000), [1000, 2000]),
  block('page', seededBytes(3, 700)),
  block('index', seededBytes(4, 90)),
]

function build(of: readonly PackBlock[], buffer = Buffer.allocUnsafe(100_000)): { pack: FinishedPack; builder: PackBuilder } {
  const builder = new PackBuilder(backup, 3, keys, buffer)
  expect(of.map((one) => builder.append(one))).toEqual(of.map((_, n) => n))
  return { pack: builder.finish(), builder }
}

const openerOf = (bytes: Buffer, object: string, of: { dataKey?: Buffer; indexKey: Buffer } = keys) =>
  new PackOpener({ backup, attempt: 3, object }, of, bytes.subarray(-64))
const object = 'packs/3-0123456789abcdef'
const key = `db1/app/20260101T020000Z-0123456789/${object}`
const damaged = (what: string) => expect.objectContaining({ code: 'object_damaged', message: `${key} is damaged: ${what}` })

describe('a pack that is built', () => {
  test('lies as FORMAT.md says: magic, blocks, padding of zeros, directory, salt, footer, each under its key and number', () => {
    const gaps = new Set<boolean>()
    for (let size = 0; size < 400; size += 3) {
      const of = [...blocks.slice(0, 2), block('index', seededBytes(5, size))]
      const { pack } = build(of)
      expect(pack.name).toMatch(/^packs\/3-[0-9a-hjkmnp-tv-z]{16}$/)
      expect(pack.bytes.toString('latin1', 0, 8)).toBe('HFPACK1\n')
      const place = { backup, attempt: 3, object: pack.name }
      const salt = pack.bytes.subarray(-64, -32)
      const [forData, forIndex] = [packDataKey(dataKey, salt), packIndexKey(keys.indexKey, salt)]
      let at = 8
      for (const [n, { kind, packed }] of of.entries()) {
        const sealed = pack.bytes.subarray(at, (at += packed.length + TAG))
        const plain = packed.buffer.subarray(0, packed.length)
        expect(unseal(kind === 'index' ? forIndex : forData, place, kind, n, sealed).equals(plain)).toBe(true)
      }
      const footer = unseal(forIndex, place, 'footer', 0xffff_ffff, pack.bytes.subarray(-32))
      const [directoryLength, padding, count, chunks] = [0, 4, 8, 12].map((offset) => footer.readUInt32LE(offset)) as [
        number,
        number,
        number,
        number,
      ]
      expect([footer.length, count, chunks, pack.blocks]).toEqual([16, 3, 2, 3])
      const directory = unseal(forIndex, place, 'directory', 0xffff_fffe, pack.bytes.subarray(at + padding, -64))
      expect(directory.equals(pack.directory)).toBe(true)
      expect(directoryLength).toBe(directory.length + TAG)
      if (padding > 0) {
        const zeros = unseal(forIndex, place, 'padding', 0xffff_fffd, pack.bytes.subarray(at, at + padding))
        expect(zeros.equals(Buffer.alloc(padding - TAG))).toBe(true)
      }
      const bare = at + directoryLength + 64
      expect(pack.bytes.length).toBe(padme(bare) === bare ? bare : padme(bare + TAG))
      expect(pack.sums).toEqual(of.map(({ packed }) => packed.sum))
      gaps.add(padding > 0)
    }
    expect(gaps.size).toBe(2)
  })

  test('is rounded by chance where it is told to: to the length that is next, or to the one after it', () => {
    const lengths = new Set<number>()
    for (let size = 0; size < 400; size += 3) {
      for (const drawn of [0, 1]) {
        const builder = new PackBuilder(backup, 3, keys, Buffer.allocUnsafe(100_000))
        builder.append(block('page', seededBytes(5, 5000 + size)))
        const bare = 8 + 5000 + size + TAG + directoryBytes(0) + TAG + 64
        const { bytes } = builder.finish((below) => {
          expect(below).toBe(padmeStep(bare))
          return drawn * (below - 1)
        })
        const rounded = padme(bare + drawn * (padmeStep(bare) - 1))
        // padding has a tag of its own
        expect(bytes.length).toBe(rounded === bare ? bare : Math.max(rounded, padme(bare + TAG)))
        lengths.add(bytes.length)
      }
    }
    expect(lengths.size).toBeGreaterThan(2)
  })

  test('opens whole, and block by block', async () => {
    const { pack } = build(blocks)
    const opener = openerOf(pack.bytes, pack.name)
    expect(opener.key).toBe(`db1/app/20260101T020000Z-0123456789/${pack.name}`)
    const directory = await openWholePack(opener, pack.bytes)
    for (const [n, { packed }] of blocks.entries()) {
      const plain = await opener.block(directory, n, pack.bytes.subarray(directory.offset(n), directory.end(n)))
      expect(plain.equals(packed.buffer.subarray(0, packed.length))).toBe(true)
    }
  })

  test('takes more memory only when its own is too small, as much as it needs, and loses nothing by it', async () => {
    const most = build(blocks).pack.bytes.length
    const exact = build(blocks, Buffer.alloc(most))
    expect(exact.builder.buffer).toHaveLength(most)
    await openWholePack(openerOf(exact.pack.bytes, exact.pack.name), exact.pack.bytes)
    // the last of them are too small for the footer alone, or for the salt before it
    for (const size of [8, 2000, 3300, 3500, most - 64, most - 40, most - 32, most - 1]) {
      const { pack, builder } = build(blocks, Buffer.alloc(size))
      expect(builder.buffer).toHaveLength(most)
      await openWholePack(openerOf(pack.bytes, pack.name), pack.bytes)
    }
  })

  test('goes on in the memory that it is moved to, and the one before it is given back', async () => {
    const before = Buffer.alloc(50_000)
    const builder = new PackBuilder(backup, 3, keys, before)
    const [first, ...more] = blocks as [PackBlock, ...PackBlock[]]
    expect(builder.holds(first)).toBe(true)
    builder.append(first)
    const larger = Buffer.alloc(100_000)
    builder.moveTo(larger)
    for (const one of more) builder.append(one)
    expect([builder.buffer === larger, before.buffer.byteLength]).toEqual([true, 0])
    const { name, bytes } = builder.finish()
    await openWholePack(openerOf(bytes, name), bytes)
  })

  test('says whether its memory holds a block with its tag', () => {
    const sealed = block('page', Buffer.alloc(1000)).packed.length + 16
    for (const [length, holds] of [
      [8 + sealed, true],
      [7 + sealed, false],
    ] as const) {
      const builder = new PackBuilder(backup, 3, keys, Buffer.alloc(length))
      expect(builder.holds(block('page', Buffer.alloc(1000)))).toBe(holds)
    }
  })

  test('has room for a block while header, blocks, directory and footer stay within 16 MiB', () => {
    const builder = new PackBuilder(backup, 3, keys, Buffer.alloc(10_000))
    const fits = (packed: number, chunks: number) =>
      builder.hasRoomFor({
        ...block('page', Buffer.alloc(0)),
        packed: { length: packed } as never,
        lengths: new Uint32Array(chunks),
      })
    const empty = 16 * MIB - AROUND - TAG - TAG
    expect([fits(empty - directoryBytes(0), 0), fits(empty - directoryBytes(0) + 1, 0)]).toEqual([true, false])
    expect([fits(empty - directoryBytes(9), 9), fits(empty - directoryBytes(9) + 1, 9)]).toEqual([true, false])
    builder.append(blocks[0] as PackBlock)
    const left = empty - (3000 + TAG) - directoryBytes(2) - directoryBytes(5)
    expect([fits(left, 5), fits(left + 1, 5)]).toEqual([true, false])
    expect(builder.blocks).toBe(1)
  })

  test('has 65,535 blocks at most', () => {
    const builder = new PackBuilder(backup, 3, keys, Buffer.alloc(10_000))
    const roomAfter = (count: number) => {
      // to seal so many would take seconds
      Object.defineProperty(builder, 'blocks', { value: count, configurable: true })
      return builder.hasRoomFor(block('page', Buffer.alloc(0)))
    }
    expect([roomAfter(65_534), roomAfter(65_535)]).toEqual([true, false])
  })
})

/** A pack of one data block as whoever holds its keys can make it. */
function forged(
  change: {
    directoryLength?: number
    paddingLength?: number
    blocks?: number
    chunks?: number
    padding?: Buffer
    magic?: string
    empty?: true
  } = {},
): Buffer {
  const salt = seededBytes(7, 32)
  const place = { backup, attempt: 3, object }
  const indexKey = packIndexKey(keys.indexKey, salt)
  const [first] = blocks as [PackBlock]
  const plain = first.packed.buffer.subarray(0, 3000)
  const row = { ...first, codec: 'stored', sealedLength: 3000 + TAG } as const
  const directory = seal(indexKey, place, 'directory', NUMBER.directory, writeDirectory(change.empty ? [] : [row]))
  const padding = change.padding ? seal(indexKey, place, 'padding', NUMBER.padding, change.padding) : Buffer.alloc(0)
  const footer = Buffer.alloc(16)
  footer.writeUInt32LE(change.directoryLength ?? directory.length, 0)
  footer.writeUInt32LE(change.paddingLength ?? padding.length, 4)
  footer.writeUInt32LE(change.blocks ?? (change.empty ? 0 : 1), 8)
  footer.writeUInt32LE(change.chunks ?? (change.empty ? 0 : 2), 12)
  return Buffer.concat([
    Buffer.from(change.magic ?? 'HFPACK1\n'),
    change.empty ? Buffer.alloc(0) : seal(packDataKey(dataKey, salt), place, 'data', 0, plain),
    padding,
    directory,
    salt,
    seal(indexKey, place, 'footer', NUMBER.footer, footer),
  ])
}

describe('a pack that is opened', () => {
  const open = (bytes: Buffer) => openWholePack(openerOf(bytes, object), bytes)

  test('may be empty, with padding or without', async () => {
    expect((await open(forged())).chunks).toBe(2)
    const empty = forged({ empty: true })
    expect(empty).toHaveLength(8 + TAG + 64)
    expect((await open(empty)).blocks).toBe(0)
    expect((await open(forged({ empty: true, padding: Buffer.alloc(5) }))).blocks).toBe(0)
  })

  test('is refused when it is shorter or longer than any pack, or of another magic', async () => {
    for (const length of [64, 87]) {
      await expect(open(forged({ empty: true }).subarray(-length))).rejects.toThrow(damaged('it has a bad size'))
    }
    expect(() => openerOf(Buffer.alloc(63), object)).toThrow(damaged('it is too short'))
    expect(openerOf(Buffer.alloc(64), object).key).toBe(key)
    await expect(open(Buffer.alloc(17 * MIB + 1))).rejects.toThrow(damaged('it has a bad size'))
    await expect(open(Buffer.alloc(17 * MIB))).rejects.toThrow(damaged('it is no pack'))
    await expect(open(forged({ magic: 'HFPACK2\n' }))).rejects.toThrow(damaged('it is no pack'))
  })

  test('is refused when its footer gives lengths that are none, or that do not fit together', async () => {
    const refused = async (change: Parameters<typeof forged>[0], what: string) =>
      await expect(open(forged(change))).rejects.toThrow(damaged(what))
    await refused({ directoryLength: LIMITS.pack + 1 }, 'its footer has a bad length')
    await refused({ directoryLength: LIMITS.pack }, 'its directory does not fit')
    await refused({ paddingLength: LIMITS.pack + 1 }, 'its footer has a bad length')
    await refused({ paddingLength: LIMITS.pack }, 'its parts do not fit together')
    await refused({ empty: true, directoryLength: TAG + 1 }, 'its directory does not fit')
    await refused({ paddingLength: 1 }, 'its parts do not fit together')
    await refused({ empty: true, paddingLength: 1 }, 'its parts do not fit together')
    await refused({ padding: Buffer.alloc(4), paddingLength: 0 }, 'its parts do not fit together')
    await refused({ chunks: 3 }, 'its parts do not fit together')
    await refused({ chunks: 1 }, 'its parts do not fit together')
    await refused({ blocks: 2 }, 'its directory has an unknown block')
    await refused({ blocks: 0, chunks: 0 }, 'its directory has a bad size')
  })

  test('is refused when its padding is anything but zeros', async () => {
    for (const at of [0, 3, 6]) {
      const padding = Buffer.alloc(7)
      padding[at] = 1
      await expect(open(forged({ padding }))).rejects.toThrow(damaged('its padding is not empty'))
    }
    expect((await open(forged({ padding: Buffer.alloc(7) }))).blocks).toBe(1)
  })

  test('gives an agent, who has the index key alone, its index and nothing else', () => {
    const { pack } = build(blocks)
    const opener = openerOf(pack.bytes, pack.name, { indexKey: keys.indexKey })
    const footer = opener.footer(pack.bytes.subarray(-64))
    const directory = opener.directory(pack.bytes.subarray(-64 - footer.directoryLength, -64), 3, pack.bytes.length)
    const packed = (n: number) => opener.packed(directory, n, pack.bytes.subarray(directory.offset(n), directory.end(n)))
    expect(packed(2)).toEqual({ codec: 'stored', bytes: seededBytes(4, 90) })
    for (const n of [0, 1]) expect(() => packed(n)).toThrow(`is damaged: block ${n} is taken for a page of the index`)
  })
})

describe('a chunk', () => {
  test('that is not what its name says is refused, and named', async () => {
    for (const [n, at] of [999, 1000].entries()) {
      const [first] = blocks as [PackBlock]
      const names = Buffer.from(first.names)
      names.writeUInt8(names.readUInt8(n * 32 + 31) ^ 1, n * 32 + 31)
      for (const wrong of [
        { ...first, names },
        { ...first, packed: { ...first.packed, buffer: flipped(first.packed.buffer, at) } },
      ]) {
        const { pack } = build([wrong])
        await expect(openWholePack(openerOf(pack.bytes, pack.name), pack.bytes)).rejects.toThrow(
          `is damaged: chunk ${n} of block 0 is not what its name says`,
        )
      }
    }
  })
})

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes)
  copy.writeUInt8(copy.readUInt8(at) ^ 1, at)
  return copy
}

describe('a pack is proved before it is sent', () => {
  let pack: FinishedPack
  const prove = (change: Partial<FinishedPack>) => {
    const given = { ...pack, ...change }
    return provePack(openerOf(given.bytes, pack.name), given)
  }
  beforeEach(() => {
    pack = build(blocks).pack
  })

  test('with what was put into it: each block, and the directory', async () => {
    await prove({})
    const refused = (cause: string) =>
      expect.objectContaining({
        code: 'internal',
        retry: true,
        cause: expect.objectContaining({ message: expect.stringContaining(cause) }),
      })
    for (const n of [0, 1, 2]) {
      const sums = pack.sums.with(n, sumOf(Buffer.from('another')))
      await expect(prove({ sums })).rejects.toEqual(refused(`block ${n} is not what was put into it`))
    }
    await expect(prove({ directory: flipped(pack.directory, 40) })).rejects.toEqual(refused('its directory is another'))
    await expect(prove({ bytes: flipped(pack.bytes, 100) })).rejects.toEqual(refused('data 0 does not open'))
    await expect(prove({ bytes: flipped(pack.bytes, 100) })).rejects.toThrow(`${pack.name} did not open again`)
  })

  test('and hashed for the store, whatever its length, while others have their turn', async () => {
    for (const length of [0, 1, 2 * MIB - 1, 2 * MIB, 5 * MIB + 1]) {
      const bytes = seededBytes(1, length)
      expect(await hashPack(bytes)).toEqual(sha256(bytes))
    }
    let turns = 0
    let next = setImmediate(function again() {
      turns++
      next = setImmediate(again)
    })
    await hashPack(seededBytes(1, 12 * MIB))
    expect(turns).toBeGreaterThanOrEqual(2)
    turns = 0
    const large = build([1, 2, 3].map((n) => block('data', seededBytes(n, 4 * MIB)))).pack
    await provePack(openerOf(large.bytes, large.name), large)
    expect(turns).toBeGreaterThanOrEqual(2)
    clearImmediate(next)
  })
})
