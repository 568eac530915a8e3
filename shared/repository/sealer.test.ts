import { createCipheriv } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import type { SealKind } from './format.ts'
import { type SealPlace, seal, sealInto, unseal } from './sealer.ts'
import { seededBytes } from './testing/content.ts'

const key = seededBytes(1, 32)
const backup = { host: 'db1', source: 'app', id: '20260101T020000Z-0123456789' }
const place: SealPlace = { backup, attempt: 3, object: 'packs/3-0123456789abcdef' }
const plain = seededBytes(2, 100)
const objectKey = 'db1/app/20260101T020000Z-0123456789/packs/3-0123456789abcdef'

const damaged = (what: string) =>
  expect.objectContaining({
    code: 'object_damaged',
    message: `${objectKey} is damaged: ${what}`,
    context: { key: objectKey },
  })

describe('sealed bytes', () => {
  test('are those that FORMAT.md says: the number as nonce, the place as additional data, the tag at the end', () => {
    for (const number of [0, 1, 258, 0xffff_fffd]) {
      const nonce = Buffer.alloc(12)
      nonce.writeUInt32LE(number)
      const cipher = createCipheriv('aes-256-gcm', key, nonce)
      const additional = ['holdfast/1', 'page', 'db1/app/20260101T020000Z-0123456789', '3', place.object, String(number)]
      cipher.setAAD(Buffer.from(additional.join('\0')))
      const expected = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()])
      expect(seal(key, place, 'page', number, plain)).toEqual(expected)
      expect(unseal(key, place, 'page', number, expected)).toEqual(plain)
    }
  })

  test('go where they are told, and nothing beside them is touched', () => {
    const target = Buffer.alloc(300, 0xaa)
    const end = sealInto(target, 50, { key, place, kind: 'data', number: 7, plain })
    expect(end).toBe(50 + 100 + 16)
    expect(target.subarray(50, end)).toEqual(seal(key, place, 'data', 7, plain))
    expect(target.subarray(0, 50)).toEqual(Buffer.alloc(50, 0xaa))
    expect(target.subarray(end)).toEqual(Buffer.alloc(300 - end, 0xaa))
  })

  test('open nowhere but in their place, and the error names the object', () => {
    const sealed = seal(key, place, 'data', 7, plain)
    const open = (at: Partial<{ key: Buffer; place: SealPlace; kind: SealKind; number: number }>) => () =>
      unseal(at.key ?? key, at.place ?? place, at.kind ?? 'data', at.number ?? 7, sealed)
    expect(open({})()).toEqual(plain)
    expect(open({ key: seededBytes(3, 32) })).toThrow(damaged('data 7 does not open'))
    expect(open({ kind: 'page' })).toThrow(damaged('page 7 does not open'))
    expect(open({ number: 8 })).toThrow(damaged('data 8 does not open'))
    expect(open({ place: { ...place, attempt: 4 } })).toThrow(damaged('data 7 does not open'))
    for (const other of [{ host: 'db2' }, { source: 'app2' }, { id: '20260101T020000Z-0123456780' }]) {
      expect(open({ place: { ...place, backup: { ...backup, ...other } } })).toThrow(/is damaged: data 7 does not open/)
    }
    expect(open({ place: { ...place, object: 'packs/3-0123456789abcdeg' } })).toThrow(/deg is damaged: data 7 does not open/)
  })

  test('do not open with any bit of them flipped, nor longer or shorter', () => {
    const sealed = seal(key, place, 'data', 7, plain)
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const flipped = Buffer.from(sealed)
      flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
      expect(() => unseal(key, place, 'data', 7, flipped), `bit ${bit}`).toThrow(damaged('data 7 does not open'))
    }
    for (const other of [sealed.subarray(1), sealed.subarray(0, -1), Buffer.concat([sealed, Buffer.alloc(1)])]) {
      expect(() => unseal(key, place, 'data', 7, other)).toThrow(damaged('data 7 does not open'))
    }
  })

  test('of nothing are a tag, and what is shorter than a tag is refused as too short', () => {
    const sealed = seal(key, place, 'footer', 1, Buffer.alloc(0))
    expect(sealed).toHaveLength(16)
    expect(unseal(key, place, 'footer', 1, sealed)).toHaveLength(0)
    expect(() => unseal(key, place, 'footer', 1, sealed.subarray(1))).toThrow(damaged('footer 1 is too short'))
    expect(() => unseal(key, place, 'footer', 1, Buffer.alloc(0))).toThrow(damaged('footer 1 is too short'))
  })
})
