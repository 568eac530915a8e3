import { zstdCompressSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { MAX_JSON_VALUES } from '../json.ts'
import { artifactRowSchema, type Contents, contentsSchema, openContents, requireReadable, sealContents } from './contents.ts'
import { contentsKey, LIMITS, MIB, padme } from './format.ts'
import { compress } from './packing.mjs'
import { seal } from './sealer.ts'
import { seededBytes } from './testing/content.ts'

const backup = { host: 'db1', source: 'app', id: '20260101T020000Z-0123456789' }
const dataKey = seededBytes(1, 32)
const hash = '0123456789abcdef'.repeat(4)
const contents: Contents = {
  format: 1,
  ...backup,
  engine: 'files',
  type: 'incremental',
  gear_key: hash,
  fingerprint: { counts: { rows: 17 }, facts: { version: '18' } },
  origins: [{ id: '20251231T020000Z-0123456789', manifest_sha256: hash }],
  artifacts: { count: 2, pages: [{ pack: 0, block: 4, first: 'a' }] },
}
const key = 'db1/app/20260101T020000Z-0123456789/contents/2'
const damaged = (what: string) => expect.objectContaining({ code: 'object_damaged', message: `${key} is damaged: ${what}` })

/** What whoever holds the key can make of it. */
function forged(
  value: unknown,
  {
    more = 0,
    frameMore = 0,
    jsonLength,
    tail = 0,
  }: { more?: number; frameMore?: number; jsonLength?: number; tail?: number } = {},
): Buffer {
  const json = Buffer.from(JSON.stringify(value))
  const frame = zstdCompressSync(json)
  const plain = Buffer.alloc(8 + frame.length + tail)
  plain.writeUInt32LE(frame.length + frameMore, 0)
  plain.writeUInt32LE(jsonLength ?? json.length + more, 4)
  frame.copy(plain, 8)
  const salt = seededBytes(2, 32)
  const place = { backup, attempt: 2, object: 'contents/2' }
  return Buffer.concat([Buffer.from('HFCONT1\n'), salt, seal(contentsKey(dataKey, salt), place, 'contents', 0, plain)])
}
const open = (object: Buffer) => openContents(object, backup, 2, dataKey)
const reads = (change: object) => contentsSchema.safeParse({ ...contents, ...change }).success

describe('contents', () => {
  test.each([
    [
      'another value',
      (json: Buffer) => zstdCompressSync(Buffer.from(String(json).replace('17', '71'))),
      'opened as something else',
    ],
    ['a frame that is cut', (json: Buffer) => compress(json).subarray(0, -1), 'did not open again'],
    ['a frame of fewer bytes', (json: Buffer) => compress(json.subarray(1)), 'did not open again'],
  ])('that do not come back as they were are not sent: %s', (_, compressWrongly, said) => {
    expect(() => sealContents(contents, backup, 2, dataKey, compressWrongly)).toThrow(
      expect.objectContaining({ code: 'internal', message: expect.stringContaining(said) }),
    )
  })

  test('come back as they were, and are as long as the Padmé length of what is in them', () => {
    const lengths = new Set<number>()
    for (let n = 0; n < 40; n++) {
      const facts = { noise: seededBytes(n, n * 50).toString('hex') }
      const given = { ...contents, fingerprint: { counts: {}, facts } }
      const object = sealContents(given, backup, 2, dataKey)
      expect(open(object)).toEqual(given)
      // magic, salt, two lengths, frame, tag
      const frame = compress(Buffer.from(JSON.stringify(given)))
      expect(object.length).toBe(padme(8 + 32 + 8 + frame.length + 16))
      lengths.add(object.length)
    }
    expect(lengths.size).toBeGreaterThan(20)
  })

  test('are sealed with a salt of their own each time', () => {
    const salts = [1, 2].map(() => sealContents(contents, backup, 2, dataKey).subarray(8, 40).toString('hex'))
    expect(salts[0]).not.toBe(salts[1])
  })

  test('open only in their place and under their key', () => {
    const object = sealContents(contents, backup, 2, dataKey)
    expect(() => openContents(object, { ...backup, host: 'db2' }, 2, dataKey)).toThrow(/contents 0 does not open/)
    expect(() => openContents(object, backup, 3, dataKey)).toThrow(/contents\/3 is damaged: contents 0 does not open/)
    expect(() => openContents(object, backup, 2, seededBytes(9, 32))).toThrow(damaged('contents 0 does not open'))
  })

  test('of another magic, too short, too long or not one zstd frame of that length are refused', () => {
    expect(open(forged(contents, { tail: 100 }))).toEqual(contents)
    const object = forged(contents)
    const otherMagic = Buffer.from(object)
    otherMagic[6] = 0x32
    expect(() => open(otherMagic)).toThrow(damaged('it is no contents'))
    expect(() => open(object.subarray(0, 7))).toThrow(damaged('it ends too early'))
    expect(() => open(object.subarray(0, 39))).toThrow(damaged('it ends too early'))
    expect(() => open(Buffer.alloc(LIMITS.head + 1))).toThrow(damaged('it is too large'))
    expect(() => open(Buffer.alloc(LIMITS.head))).toThrow(damaged('it is no contents'))
    expect(() => open(forged(contents, { frameMore: 1 }))).toThrow(damaged('it ends too early'))
    expect(() => open(forged(contents, { frameMore: -1 }))).toThrow(/is damaged: it is not one zstd frame/)
    expect(() => open(forged(contents, { more: 1 }))).toThrow(/is damaged: a block decodes to \d+ bytes where/)
    expect(() => open(forged(contents, { more: -1 }))).toThrow(/is damaged: a block decodes to \d+ bytes where/)
    expect(() => open(forged(contents, { jsonLength: LIMITS.head + 1 }))).toThrow(damaged('it is too large'))
    expect(() => open(forged(contents, { jsonLength: 10 }))).toThrow(damaged('it does not decode'))
    expect(() => open(forged(contents, { jsonLength: LIMITS.head }))).toThrow(/decodes to \d+ bytes where/)
  })

  test('of another backup than the one they lie in are refused', () => {
    for (const other of [{ host: 'db2' }, { source: 'app2' }, { id: '20260101T020000Z-0123456780' }]) {
      expect(() => open(forged({ ...contents, ...other }))).toThrow(damaged('it is of another backup'))
    }
  })

  test('of another shape are refused, with the reason as cause', () => {
    const { type: _, ...without } = contents
    for (const value of [{ ...contents, more: 1 }, without, { ...contents, format: 2 }, [], null]) {
      expect(() => open(forged(value))).toThrow(
        expect.objectContaining({ message: `${key} is damaged: it is of another shape`, cause: expect.any(Error) }),
      )
    }
  })

  test('have the fields of FORMAT.md and no other, within their limits', () => {
    expect(reads({})).toBe(true)
    for (const type of ['full', 'incremental', 'differential']) expect(reads({ type })).toBe(true)
    expect(reads({ type: 'copy' })).toBe(false)
    for (const field of ['host', 'source', 'id', 'engine']) expect(reads({ [field]: 1 })).toBe(false)
    const longer = `${hash}0`
    for (const gear_key of [longer, `0${hash}`, hash.slice(1), hash.toUpperCase(), `${hash}\n`])
      expect(reads({ gear_key })).toBe(false)
    const origin = contents.origins[0]
    expect(reads({ origins: Array.from({ length: 1000 }, () => origin) })).toBe(true)
    expect(reads({ origins: Array.from({ length: 1001 }, () => origin) })).toBe(false)
    expect(reads({ origins: [{ ...origin, host: 'db1' }] })).toBe(false)
    expect(reads({ origins: [{ id: 1, manifest_sha256: hash }] })).toBe(false)
    const { pages } = contents.artifacts
    const artifacts = (change: object) => reads({ artifacts: { count: 2, pages, ...change } })
    expect(artifacts({ count: 1_000_000 })).toBe(true)
    for (const count of [1_000_001, -1, 0.5, '2']) expect(artifacts({ count })).toBe(false)
    expect(artifacts({ more: 1 })).toBe(false)
    const page = (change: object) => artifacts({ pages: [{ pack: 0, block: 0, first: '', ...change }] })
    expect(page({})).toBe(true)
    for (const change of [{ pack: -1 }, { block: 0.5 }, { first: 1 }, { more: 1 }, { pack: 2 ** 53 }])
      expect(page(change)).toBe(false)
    expect(page({ pack: 2 ** 53 - 1 })).toBe(true)
  })

  test('a row of artifacts has the fields of FORMAT.md and no other', () => {
    const row = {
      kind: 'stream',
      name: 'a',
      chunking: { kind: 'fixed', bytes: 512 },
      facts: { columns: 'a' },
      bytes: 3,
      digest: hash,
      body: { inline: 'AAAA' },
    }
    const good = (change: object) => artifactRowSchema.safeParse({ ...row, ...change }).success
    const average_bytes = 4096
    for (const change of [
      {},
      { kind: 'tree', entries: 0 },
      { part: 'p' },
      { chunking: { kind: 'content-defined', average_bytes } },
      { body: { pages: [[0, 1]] } },
      { body: { inline: 'A'.repeat(4 * MIB) } },
    ])
      expect(good(change), JSON.stringify(change).slice(0, 80)).toBe(true)
    for (const change of [
      { kind: 'file' },
      { name: 1 },
      { part: 1 },
      { entries: -1 },
      { more: 1 },
      { facts: { columns: 1 } },
      { digest: 'x' },
      { bytes: -1 },
      { chunking: { kind: 'fixed', average_bytes } },
      { chunking: { kind: 'content-defined', bytes: 512 } },
      { chunking: { kind: 'fixed', bytes: 512, more: 1 } },
      { chunking: { kind: 'content-defined', average_bytes, more: 1 } },
      { chunking: { kind: 'other', bytes: 512 } },
      { body: {} },
      { body: { inline: 'A'.repeat(4 * MIB + 1) } },
      { body: { inline: 'AAAA', pages: [] } },
      { body: { pages: [[0]] } },
      { body: { pages: [[0, 1, 2]] } },
      { body: { pages: [[0, -1]] } },
    ])
      expect(good(change), JSON.stringify(change).slice(0, 80)).toBe(false)
  })

  test('what a reader would refuse is not written', () => {
    const most = Math.floor(LIMITS.head * 0.9)
    requireReadable('contents', Buffer.alloc(most))
    const refused = (length: number) =>
      expect.objectContaining({
        code: 'too_large',
        message: `the contents of the backup would have ${length} bytes, or too many parts`,
        hint: 'Split the source: it has too many parts or too many artifacts for one backup.',
      })
    expect(() => requireReadable('contents', Buffer.alloc(most + 1))).toThrow(refused(most + 1))
    requireReadable('contents', Buffer.alloc(MAX_JSON_VALUES, ','))
    expect(() => requireReadable('contents', Buffer.alloc(MAX_JSON_VALUES + 1, ','))).toThrow(refused(MAX_JSON_VALUES + 1))
    const long = { ...contents, engine: ','.repeat(MAX_JSON_VALUES + 1) }
    expect(() => sealContents(long, backup, 2, dataKey)).toThrow(/^the contents of the backup would have/)
  })
})
