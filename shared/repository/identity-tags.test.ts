import { createHmac, randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { varint } from './format.ts'
import { IdentityTags } from './identity-tags.ts'

test('the tag of a file is the HMAC-SHA256 that the format names, whatever came before it', () => {
  const key = randomBytes(32)
  for (const tree of ['tree', 'ein Baum', 'ü'.repeat(200)]) {
    const tags = new IdentityTags(key, tree)
    const name = Buffer.from(tree)
    const paths = [randomBytes(5000), Buffer.alloc(0), Buffer.from('a/b'), randomBytes(127), randomBytes(128), Buffer.from('a/b')]
    for (const path of paths) {
      for (const identity of ['1:2:3:4:5', '', '€'.repeat(2000)]) {
        const text = Buffer.concat([varint(name.length), name, varint(path.length), path, Buffer.from(identity)])
        const expected = createHmac('sha256', key).update(text).digest().subarray(0, 16)
        expect(tags.of(path, identity).equals(expected)).toBe(true)
      }
    }
  }
})

test('a tag stays what it is when others are made', () => {
  const tags = new IdentityTags(randomBytes(32), 'tree')
  const one = tags.of(Buffer.from('one'), '1')
  const before = Buffer.from(one)
  for (let n = 0; n < 100; n++) tags.of(Buffer.from(`${n}`), '1')
  expect(one.equals(before)).toBe(true)
})
