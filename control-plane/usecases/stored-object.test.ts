import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { expect, test } from 'vitest'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { compareStored } from './stored-object.ts'

const bytes = Buffer.from('sealed bytes')
const sha256 = createHash('sha256').update(bytes).digest()

/** A store with one object. `keeps`: its `head` answers with the SHA-256. */
function store(body: Buffer | null, keeps: boolean) {
  let reads = 0
  const hash = body && createHash('sha256').update(body).digest()
  const target: Pick<StorageTarget, 'head' | 'getStream'> = {
    head: async () => body && { size: body.length, sha256: keeps ? hash : null, modified: new Date(0) },
    getStream: async () => {
      reads += 1
      return Readable.from([body])
    },
  }
  return { target, reads: () => reads }
}

test.each([
  ['the same', bytes, 'same'],
  ['no', null, 'absent'],
  ['a longer', Buffer.concat([bytes, bytes]), 'of another size'],
  ['another object of the same length', Buffer.from('SEALED BYTES'), 'other bytes'],
] as const)('%s object is told apart, whether the service keeps a SHA-256 or not', async (_, body, verdict) => {
  for (const keeps of [true, false]) {
    const { target } = store(body, keeps)
    expect(await compareStored(target, 'k', { size: bytes.length, sha256 })).toBe(verdict)
  }
})

test('bytes are read only where the service keeps no SHA-256', async () => {
  const [keeping, forgetful] = [store(bytes, true), store(bytes, false)]
  for (const { target } of [keeping, forgetful]) await compareStored(target, 'k', { size: bytes.length, sha256 })
  expect([keeping.reads(), forgetful.reads()]).toEqual([0, 1])
})
