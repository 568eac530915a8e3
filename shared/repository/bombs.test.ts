import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { newAgeIdentity, recipientOf } from '../age/age.ts'

const ROW = '{"name":"packs/1-0000000000000000","size":1,"sha256":"00"}'

/** What a decoder may have on the heap beside the bytes that it was given, however they were made. */
const HEAP_MIB = 192

test.each([
  ['manifest', ROW, 'manifest_forged'],
  ['manifest', '{}', 'manifest_forged'],
  ['contents', '{}', 'object_damaged'],
  ['fingerprint', '"name #":-1', 'object_damaged'],
  ['origins', '[[]]', 'object_damaged'],
  ['index', '[0,0]', 'object_damaged'],
  ['keys', '{}', 'object_damaged'],
  ['artifact', '{}', 'object_damaged'],
])('%s full of %s up to its limits is refused within 192 MiB of heap', async (part, filling, code) => {
  const identity = await newAgeIdentity()
  const worker = new Worker(new URL('testing/bombs.ts', import.meta.url), {
    workerData: { part, filling, recipient: await recipientOf(identity), identity: identity.reveal() },
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
  })
  try {
    expect(await once(worker, 'message')).toEqual([code])
  } finally {
    await worker.terminate()
  }
})
