import { expect, test } from 'vitest'
import type { HoldfastError } from '../errors.ts'
import { objectKey } from '../manifest/layout.ts'
import { type BlockCodec, CodecThreads } from './codec-threads.ts'
import { compress } from './packing.mjs'
import type { ObjectError } from './repository.ts'
import { sumOf } from './sums.mjs'
import { dumpLike, pieces } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'

/** What a block decodes to is compared with what the directory and the names of its chunks say, whoever stored it so. */

const chunking = { kind: 'content-defined', averageBytes: 65_536 } as const
const LINES = 900_000

/** Packs blocks of data as the frame that `wrong` makes of them, with the sums that belong to that frame. */
function lying(wrong: (plain: Buffer) => Buffer): BlockCodec {
  const honest = new CodecThreads(1)
  return {
    pack: async (block) => {
      if (block.length < LINES / 2) return honest.pack(block)
      const frame = wrong(Buffer.from(block.buffer.subarray(0, block.length)))
      frame.copy(block.buffer)
      return { buffer: block.buffer, codec: 'zstd', length: frame.length, sum: sumOf(frame) }
    },
    close: () => honest.close(),
  }
}

function lastByteChanged(plain: Buffer): Buffer {
  ;(plain[plain.length - 1] as number) ^= 1
  return plain
}

test.each<[string, (plain: Buffer) => Buffer, RegExp]>([
  ['one byte less than is said', (plain) => compress(plain.subarray(0, -1)), /decodes to \d+ bytes where \d+ are said/],
  [
    'one byte more than is said',
    (plain) => compress(Buffer.concat([plain, Buffer.alloc(1)])),
    /decodes to \d+ bytes where \d+ are said/,
  ],
  ['nothing', () => compress(Buffer.alloc(0)), /decodes to 0 bytes/],
  ['far more than is said', () => compress(Buffer.alloc(64_000_000)), /does not decode/],
  ['as many bytes, the last one another', (plain) => compress(lastByteChanged(plain)), /is not what its name says/],
  ['as many zeros', (plain) => compress(Buffer.alloc(plain.length)), /is not what its name says/],
  ['the right bytes in a frame that was cut off', (plain) => compress(plain).subarray(0, -1), /is not one zstd frame/],
  [
    'the right bytes in a frame with a byte after it',
    (plain) => Buffer.concat([compress(plain), Buffer.alloc(1)]),
    /is not one zstd frame/,
  ],
  ['the right bytes in two frames', halves, /is not one zstd frame/],
])(
  'a block that decodes to %s is refused by verify with the name of its pack, and by a restore before a byte of it is given out',
  async (...given) => {
    const [, wrong, message] = given
    const fleet = await TestFleet.create()
    const plain = dumpLike(1, LINES)
    const manifest = await fleet.backup(0, (sink) => sink.stream({ name: 'dump', chunking }, pieces(plain)), {
      codec: lying(wrong),
    })
    const pack = manifest.facts.objects.find(({ name }) => name.startsWith('packs/'))?.name as string
    const damaged = { code: 'object_damaged', message: expect.stringMatching(message) }
    const errors: ObjectError[] = []
    const reader = await fleet.reader(manifest)
    await reader.verify({ onError: (error) => errors.push(error) })
    expect(errors).toEqual([{ ...damaged, key: objectKey(manifest.facts, pack) }])
    const parts: Buffer[] = []
    const restore = async () => {
      for await (const part of reader.openStream('dump')) parts.push(Buffer.from(part))
    }
    const refused = await restore().catch((error: HoldfastError) => error)
    expect(refused).toMatchObject({ code: 'object_damaged', context: { key: objectKey(manifest.facts, pack) } })
    // what went wrong in a thread is the cause
    expect(`${refused?.message} ${(refused?.cause as Error | undefined)?.message}`).toMatch(message)
    const out = Buffer.concat(parts)
    expect(out.equals(plain.subarray(0, out.length))).toBe(true)
    expect(out.length).toBeLessThan(plain.length)
  },
)

function halves(plain: Buffer): Buffer {
  const middle = plain.length >> 1
  return Buffer.concat([compress(plain.subarray(0, middle)), compress(plain.subarray(middle))])
}
