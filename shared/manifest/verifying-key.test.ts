import { generateKeyPairSync } from 'node:crypto'
import { expect, test } from 'vitest'
import { parseVerifyingKey, verifyingKeyId, verifyingKeyText } from './verifying-key.ts'

test('a verifying key survives being written down, and any changed character is noticed', () => {
  const { publicKey } = generateKeyPairSync('ed25519')
  const text = verifyingKeyText(publicKey)
  expect(text).toMatch(/^hfv1[0-9a-hjkmnp-tv-z]{58}$/)
  expect(parseVerifyingKey(` ${text.toUpperCase()}\n`).equals(publicKey)).toBe(true)
  expect(verifyingKeyId(publicKey)).toMatch(/^[0-9a-f]{16}$/)
  for (let at = 4; at < text.length; at++) {
    const other = text[at] === '0' ? '1' : '0'
    expect(() => parseVerifyingKey(text.slice(0, at) + other + text.slice(at + 1))).toThrow('mistyped')
  }
  for (const wrong of ['', 'hfv1', text.slice(0, -1), `${text}0`, `hfv2${text.slice(4)}`]) {
    expect(() => parseVerifyingKey(wrong)).toThrow('mistyped')
  }
})
