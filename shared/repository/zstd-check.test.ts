import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import { decompress, decompressNow } from './compressor.ts'
import { LIMITS } from './format.ts'
import { compress, DEEP, FAST, NARROW } from './packing.mjs'
import { dumpLike, seededBytes } from './testing/content.ts'
import { temporaryFolder } from './testing/temporary-folders.ts'
import { SHORTER, tryZstd, type ZstdInUse } from './zstd-check.ts'
import { isOneFrame } from './zstd-frame.mjs'

const ROOT = path.resolve(import.meta.dirname, '../..')
const fail = (what: string) => new Error(what)
const good: ZstdInUse = {
  compress,
  now: (frame, length) => decompressNow(frame, length, fail),
  later: (frame, length) => decompress({ codec: 'zstd', bytes: frame }, length, fail),
}
/** Decoding without what the reader looks at before and after. */
const bare = (frame: Buffer) => zstdDecompressSync(frame)

function flip(bytes: Buffer, at: number): Buffer {
  ;(bytes[at] as number) ^= 1
  return bytes
}

describe('a zstd that loses or changes data is found before anything is done with it', () => {
  test('the one that is used passes', async () => {
    await tryZstd(good)
  })

  test('at the start of a program and of who reads it takes little memory, and of who packs the longest block', async () => {
    for (const [longest, tries] of [
      [SHORTER, SHORTER],
      [undefined, LIMITS.block],
    ] as const) {
      const lengths: number[] = []
      const compressing = (plain: Buffer) => {
        lengths.push(plain.length)
        return compress(plain)
      }
      await tryZstd({ ...good, compress: compressing }, longest)
      expect(Math.max(...lengths)).toBe(tries)
      expect(lengths).toContain(131_073)
    }
  })

  const lost = (plain: Buffer) => compress(plain.length > 2_000_000 ? plain.subarray(0, -1) : plain)
  test.each<[string, Partial<ZstdInUse>, string]>([
    ['compressing loses the end of what is long', { compress: lost }, 'fails with 2500000 bytes of text'],
    [
      'compressing changes a byte that does not shrink',
      { compress: (plain) => compress(plain.length === 400_000 ? flip(plain, 7) && Buffer.alloc(400_000) : plain) },
      'gives bytes that do not shrink back as something else',
    ],
    [
      'decoding at once changes a byte',
      { now: (frame, length) => (length === 131_073 ? flip(good.now(frame, length), 131_072) : good.now(frame, length)) },
      'gives 131073 bytes of text back as something else',
    ],
    [
      'decoding in another thread changes a byte',
      { later: async (frame, length) => (length > 3_000_000 ? Buffer.alloc(length, 1) : good.later(frame, length)) },
      'gives a block of zeros back as something else',
    ],
    [
      'decoding at once changes a byte of what is long',
      { now: (frame, length) => (length > 2_000_000 ? flip(good.now(frame, length), 2_400_000) : good.now(frame, length)) },
      'gives 2500000 bytes of text back as something else',
    ],
    [
      'decoding in another thread changes what goes over the end of a block of the library',
      { later: async (frame, length) => (length > 131_072 ? Buffer.alloc(length, 1) : good.later(frame, length)) },
      'gives 131073 bytes of text back as something else',
    ],
    ...[NARROW, FAST, DEEP].map((settings): [string, Partial<ZstdInUse>, string] => [
      `compressing is wrong with the settings ${JSON.stringify(settings)}`,
      { compress: (plain, given) => (given === settings ? Buffer.from('abc') : compress(plain, given)) },
      'fails with 300000 bytes of text',
    ]),
    ['decoding fails', { later: () => Promise.reject(new Error('no')) }, 'fails with three bytes as they are'],
    [
      'compressing and decoding are wrong in the same way',
      {
        compress: (plain) => compress(Buffer.from(plain).reverse()),
        now: (frame, length) => Buffer.from(good.now(frame, length)).reverse(),
        later: async (frame, length) => Buffer.from(await good.later(frame, length)).reverse(),
      },
      'gives three bytes as they are back as something else',
    ],
    [
      'decoding takes a frame that was cut off',
      { now: (frame, length) => (isOneFrame(frame) ? good.now(frame, length) : Buffer.alloc(length)) },
      'takes a frame without its last byte',
    ],
    [
      'decoding takes what stands after a frame',
      { now: (frame, length) => (isOneFrame(frame) ? good.now(frame, length) : bare(frame)) },
      'takes a frame with a byte after it',
    ],
    [
      'decoding does not compare the length',
      { later: async (frame, length) => (isOneFrame(frame) ? bare(frame) : good.later(frame, length)) },
      'takes a frame that is longer than is said',
    ],
  ])('%s', async (_what, wrong, message) => {
    await expect(tryZstd({ ...good, ...wrong })).rejects.toMatchObject({
      code: 'internal',
      message: `zstd of Node ${process.versions.node} ${message}`,
    })
  })

  test.each([
    ['agent', ['agent/main.ts', '--home', 'HOME', 'run']],
    ['control plane', ['control-plane/main.ts', '--home', 'HOME', '--port', '0']],
  ])('the %s does not start with one', async (_program, args) => {
    const home = temporaryFolder()
    const { said, status } = await runWithWrongZstd(args.map((arg) => (arg === 'HOME' ? home : arg)))
    expect(said).toMatch(FOUND)
    expect(status).toBeGreaterThan(0)
  })

  test('no writer and no reader is opened with one', async () => {
    const program = `
      import { rebuildKnown } from './shared/repository/known-rebuild.ts'
      import { openReader } from './shared/repository/reader.ts'
      import { TestFleet } from './shared/repository/testing/fleet.ts'
      import { openWriter } from './shared/repository/writer.ts'
      const fleet = await TestFleet.create()
      const opened = [openWriter(fleet.options(fleet.place(0))), openReader({ manifest: { facts: { stored_bytes: 0 } } }), rebuildKnown({})]
      for (const one of await Promise.allSettled(opened)) console.log(one.reason?.message ?? 'it was opened')
    `
    const { said } = await runWithWrongZstd(['--input-type=module', '--eval', program])
    expect(said.trim().split('\n')).toEqual(Array.from({ length: 3 }, () => expect.stringMatching(FOUND)))
  })
})

const FOUND = /zstd of Node [\d.]+ gives 131073 bytes of text back as something else/

async function runWithWrongZstd(args: readonly string[]): Promise<{ said: string; status: number }> {
  const child = spawn(process.execPath, ['--import', WRONG_ZSTD, ...args], { cwd: ROOT, env: {} })
  onTestFinished(() => void child.kill('SIGKILL'))
  const said: Buffer[] = []
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (part: Buffer) => said.push(part))
  const [status] = (await once(child, 'close')) as [number]
  return { said: Buffer.concat(said).toString(), status }
}

/** One wrong byte in what decodes to more than 128 KiB. */
const WRONG_ZSTD = `data:text/javascript,${encodeURIComponent(`
  import zlib from 'node:zlib'
  import { syncBuiltinESMExports } from 'node:module'
  const right = zlib.zstdDecompressSync
  zlib.zstdDecompressSync = (...given) => {
    const plain = right(...given)
    if (plain.length > 131072) plain[131072] ^= 1
    return plain
  }
  syncBuiltinESMExports()
`)}`

describe('one frame and nothing after it', () => {
  const frame = compress(dumpLike(1, 400_000))

  test('is told for whatever the library makes', () => {
    const params = fc.record({ level: fc.integer({ min: -5, max: 19 }), checksum: fc.boolean(), size: fc.boolean() })
    const plain = fc.oneof(
      fc.nat({ max: 300_000 }).map((length) => dumpLike(length, length)),
      fc.nat({ max: 300_000 }).map((length) => seededBytes(length, length)),
      fc.nat({ max: 300_000 }).map((length) => Buffer.alloc(length)),
    )
    fc.assert(
      fc.property(plain, params, fc.uint8Array({ minLength: 1, maxLength: 9 }), (bytes, { level, checksum, size }, more) => {
        const made = zstdCompressSync(bytes, {
          params: {
            [constants.ZSTD_c_compressionLevel]: level,
            [constants.ZSTD_c_checksumFlag]: checksum ? 1 : 0,
            [constants.ZSTD_c_contentSizeFlag]: size ? 1 : 0,
          },
        })
        expect(isOneFrame(made)).toBe(true)
        expect(isOneFrame(made.subarray(0, -1))).toBe(false)
        expect(isOneFrame(Buffer.concat([made, more]))).toBe(false)
      }),
      { numRuns: 60, seed: 20_261_121 },
    )
  })

  test('of a frame that was cut off anywhere it is not', () => {
    for (let length = 0; length < frame.length; length += length < 200 ? 1 : 97)
      expect(isOneFrame(frame.subarray(0, length))).toBe(false)
  })

  test.each([
    ['a byte', Buffer.from([0])],
    ['an empty frame', compress(Buffer.alloc(0))],
    ['a frame that is skipped', Buffer.from('502a4d1803000000010203', 'hex')],
  ])('a reader refuses %s after it, and before it, where the library takes it', async (_what, more) => {
    expect(bare(Buffer.concat([frame, more]))).toHaveLength(400_000)
    for (const bytes of [Buffer.concat([frame, more]), Buffer.concat([more, frame])]) {
      expect(() => good.now(bytes, 400_000)).toThrow('not one zstd frame')
      await expect(good.later(bytes, 400_000)).rejects.toThrow('not one zstd frame')
    }
  })
})
