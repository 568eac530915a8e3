import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { isHoldfastError } from '../errors.ts'
import { MIB } from './format.ts'
import { largestAllocation } from './testing/allocations.ts'
import { HostileBackup, type Parts } from './testing/hostile.ts'

/** A short run has a fixed seed, so that it means the same everywhere; a long one (docs/testing.md) looks further each time. */
const LONG = Number(process.env.HOLDFAST_TEST_FUZZ ?? 0)
const options = (runs: number) => (LONG > 0 ? { numRuns: LONG } : { numRuns: runs, seed: 20_261_121 })

/** Bytes that numbers, lengths and JSON are made of, where they hurt most. */
const nasty = fc.constantFrom(
  ...['ffffffff', '00000000', 'ffffffffffffff7f', 'ffffffffffffffff', '80808080808080', '7f', '3f', '40', '41', '01'].map((hex) =>
    Buffer.from(hex, 'hex'),
  ),
)
const piece = fc.oneof(
  nasty,
  fc.uint8Array({ minLength: 1, maxLength: 12 }).map((bytes) => Buffer.from(bytes)),
)
const edit = fc.record({ at: fc.nat(), piece, how: fc.constantFrom('over', 'insert', 'cut', 'flip', 'repeat') })

function changed(bytes: Buffer, edits: ReadonlyArray<{ at: number; piece: Buffer; how: string }>): Buffer {
  let out = bytes
  for (const { at, piece: noise, how } of edits) {
    const place = at % (out.length + 1)
    const [head, tail] = [out.subarray(0, place), out.subarray(place)]
    if (how === 'over') out = Buffer.concat([head, noise, tail.subarray(noise.length)])
    else if (how === 'insert') out = Buffer.concat([head, noise, tail])
    else if (how === 'cut') out = at % 3 === 0 ? Buffer.from(head) : Buffer.concat([head, tail.subarray(noise.length)])
    else if (how === 'repeat') out = Buffer.concat([head, tail.subarray(0, 40), tail])
    else {
      out = Buffer.from(out)
      if (tail.length > 0) out[place] = (out[place] as number) ^ (noise[0] as number)
    }
  }
  return out
}

const strange = fc.oneof(
  // other blocks and packs than those that are meant
  fc.nat({ max: 8 }),
  fc.array(fc.tuple(fc.nat({ max: 1 }), fc.nat({ max: 8 })), { maxLength: 4 }),
  fc.constantFrom<unknown>(
    null,
    -1,
    0.5,
    2 ** 53,
    1e308,
    '',
    '__proto__',
    [],
    {},
    [[]],
    [[0, 0, 0]],
    [[0.5, 1]],
    [[2 ** 40, 2 ** 40]],
  ),
  fc.jsonValue({ maxDepth: 3 }),
)

/** JSON with one value in it replaced, wherever it stands. */
function otherJson(json: Buffer, at: number, value: unknown): Buffer {
  const root: { value: unknown } = { value: JSON.parse(json.toString()) }
  const places: Array<[Record<string, unknown>, string]> = []
  const walk = (parent: Record<string, unknown>, key: string): void => {
    places.push([parent, key])
    const child = parent[key]
    if (child !== null && typeof child === 'object')
      for (const name of Object.keys(child)) walk(child as Record<string, unknown>, name)
  }
  walk(root as Record<string, unknown>, 'value')
  const [parent, key] = places[at % places.length] as [Record<string, unknown>, string]
  parent[key] = value
  return Buffer.from(JSON.stringify(root.value) ?? 'null')
}

const JSON_PARTS = ['contentsJson', 'indexJson', 'keysJson'] as const
const BYTE_PARTS = ['artifacts', 'body', 'chunkPage', 'treePage', 'directory', 'footer', ...JSON_PARTS] as const
/** What may be said of a backup that is not right. */
const CODES = ['object_damaged', 'object_missing', 'key_missing', 'not_found']

let backup: HostileBackup
beforeAll(async () => {
  backup = await HostileBackup.take()
})

async function expectRefusal(parts: Partial<Parts>): Promise<void> {
  const { value, largest } = await largestAllocation(() => backup.read(parts))
  for (const result of value) {
    if (!(result instanceof Error)) continue
    if (!isHoldfastError(result) || !CODES.includes(result.code)) throw result
  }
  // a block is the largest thing that a small backup may name; sealing it for the test takes a little more
  expect(largest).toBeLessThanOrEqual(4 * MIB + 64 * 1024)
}

describe('whatever a backup holds, sealed and signed as it should be', () => {
  test('unchanged it is read by everything that reads backups', async () => {
    expect((await backup.read({})).filter((result) => result instanceof Error)).toEqual([])
  })

  test.each(BYTE_PARTS)(
    '%s of any bytes is read or refused by a typed error, and takes no more memory than a block',
    async (part) => {
      await fc.assert(
        fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 3 }), async (edits) => {
          await expectRefusal({ [part]: changed(backup.parts[part], edits) })
        }),
        options(40),
      )
    },
  )

  test.each(JSON_PARTS)('%s with any value in the place of another is read or refused by a typed error', async (part) => {
    await fc.assert(
      fc.asyncProperty(fc.nat(), strange, async (at, value) => {
        await expectRefusal({ [part]: otherJson(backup.parts[part], at, value) })
      }),
      options(100),
    )
  })

  test('an index that names blocks of data as its pages opens none of them: its key does not', async () => {
    const index = JSON.parse(backup.parts.indexJson.toString())
    for (const field of ['chunks', 'trees']) {
      for (let block = 0; block < 4; block++) {
        const indexJson = Buffer.from(JSON.stringify({ ...index, [field]: [[0, block]] }))
        expect((await backup.read({ indexJson })).at(-1)).toMatchObject({ code: 'object_damaged' })
      }
    }
  })

  test('an index that names chunks twice is refused, so that a page does not stand for gigabytes of names', async () => {
    const twice = Buffer.concat([backup.parts.chunkPage, backup.parts.chunkPage.subarray(1)])
    expect((await backup.read({ chunkPage: twice })).at(-1)).toMatchObject({ code: 'object_damaged' })
    // the last run once more, right after itself: flags "first is given", first 0
    const again = Buffer.concat([backup.parts.chunkPage, Buffer.from([17, 0])])
    expect((await backup.read({ chunkPage: again })).at(-1)).toMatchObject({ code: 'object_damaged' })
  })

  test('verify reports a body whose digest is not that of the contents', async () => {
    for (const part of ['body', 'artifacts'] as const) {
      const bytes = Buffer.from(backup.parts[part])
      // the mode of the first entry; a digit of the digest of the first artifact
      const at = part === 'body' ? bytes.indexOf('file 0') + 8 : bytes.indexOf('"digest":"') + 10
      bytes[at] = part === 'body' ? (bytes[at] as number) ^ 1 : bytes[at] === 0x61 ? 0x62 : 0x61
      expect(await backup.verify({ [part]: bytes })).toMatchObject([{ code: 'object_damaged' }])
    }
    expect(await backup.verify({})).toEqual([])
  })

  test('a restore of a stream or a tree that is not what the contents say of it ends with an error, and so does verify', async () => {
    const text = backup.parts.artifacts.toString('latin1')
    const digest = (kind: string) => text.indexOf('"digest":"', text.indexOf(`"kind":"${kind}"`)) + 10
    const bytes = text.indexOf('"bytes":30000') + 12
    for (const [at, message] of [
      [digest('stream'), 'stream "stream" is not what was stored'],
      [digest('tree'), 'tree "tree" is not what was stored'],
      [bytes, 'stream "stream" is not what was stored'],
    ] as const) {
      const artifacts = Buffer.from(backup.parts.artifacts)
      artifacts[at] = artifacts[at] === 0x31 ? 0x32 : 0x31
      const refused = (await backup.read({ artifacts })).filter((result) => result instanceof Error)
      expect(refused).toEqual([expect.objectContaining({ code: 'object_damaged', message: expect.stringContaining(message) })])
      expect(await backup.verify({ artifacts })).toMatchObject([
        { code: 'object_damaged', key: expect.stringContaining('contents/1') },
      ])
    }
  })

  test('contents that lean on other backups than the manifest are refused', async () => {
    const contents = JSON.parse(backup.parts.contentsJson.toString())
    const origins = [{ id: contents.id, manifest_sha256: '0'.repeat(64) }]
    const [refused] = await backup.read({ contentsJson: Buffer.from(JSON.stringify({ ...contents, origins })) })
    expect(refused).toMatchObject({ code: 'object_damaged', message: expect.stringContaining('leans on other backups') })
  })
})
