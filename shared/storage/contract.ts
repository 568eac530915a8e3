import { createHash, randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, type TestContext, test } from 'vitest'
import { isHoldfastError } from '../errors.ts'
import { randomBase32 } from '../ids.ts'
import { addressContract } from './contract-addresses.ts'
import type { ListedObject, StorageTarget } from './target.ts'

/**
 * What every kind of storage target must do. A kind calls it once from its own `*.contract.test.ts`; one that does not pass is not
 * registered. Addresses and faults are in contract-addresses.ts.
 */
export interface ContractSubject {
  readonly target: StorageTarget
  /** The same store, reached through a proxy that does what its script says (test/harness/fault-proxy.ts). */
  readonly faulty: { readonly target: StorageTarget; readonly proxy: ScriptedProxy }
  /** A target of the same store whose addresses are soon over, and what waits until they are. */
  shortLived(): Promise<{ target: StorageTarget; expire(): Promise<void> }>
  /** True when the target's own calls (not only its addresses) pass the proxy. */
  readonly ownCallsPassProxy: boolean
  close(): Promise<void>
}

/** The part of the fault proxy that the suite needs. */
export interface ScriptedProxy {
  script: (request: { readonly number: number; readonly method: string }) => { readonly kind: string } & Record<string, unknown>
  readonly seen: ReadonlyArray<{ readonly method: string; readonly fault: { readonly kind: string } }>
}

export const sha256 = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest()

export async function rejection(work: Promise<unknown>): Promise<unknown> {
  try {
    await work
  } catch (error) {
    return error
  }
  throw new Error('it was expected to fail, and did not')
}

export async function codeOf(work: Promise<unknown>): Promise<string> {
  const error = await rejection(work)
  return isHoldfastError(error) ? error.code : `not ours: ${String(error)}`
}

/** `prepare` gives null where the machine cannot have the service: the suite is then skipped. */
export function storageTargetContract(kind: string, prepare: () => Promise<ContractSubject | null>): void {
  describe(`storage target: ${kind}`, () => {
    let subject: ContractSubject | null = null
    beforeAll(async () => {
      subject = await prepare()
    })
    afterAll(async () => {
      await subject?.close()
    })
    const need = (context: TestContext): ContractSubject => {
      if (!subject) return context.skip('the service cannot be had on this machine')
      return subject
    }
    writing(need)
    reading(need)
    listing(need)
    removing(need)
    addressContract(need)
  })
}

export type Need = (context: TestContext) => ContractSubject
/** A folder of its own for each test, so that none sees another's objects. */
export const freshFolder = (): string => `contract/${randomBase32(16)}`

function writing(need: Need): void {
  test('an object is whole or absent: while it is written nobody sees it', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/packs/1-a`
    const body = randomBytes(8 * 1024 * 1024)
    let done = false
    const put = target.put(key, body).finally(() => {
      done = true
    })
    while (!done) {
      const head = await target.head(key)
      if (head) expect(head.size).toBe(body.length)
    }
    await put
    expect((await target.get(key)).equals(body)).toBe(true)
  })

  test('of twenty puts of one key at once, one wins and the others are told object_conflict', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/contended`
    const bodies = Array.from({ length: 20 }, (_, i) => Buffer.from(`body ${i} ${randomBase32(10)}`))
    const outcomes = await Promise.all(
      bodies.map((body) =>
        target.put(key, body).then(
          () => 'stored',
          (error) => error.code,
        ),
      ),
    )
    expect(outcomes.filter((outcome) => outcome === 'stored')).toHaveLength(1)
    expect(outcomes.filter((outcome) => outcome === 'object_conflict')).toHaveLength(19)
    const winner = bodies[outcomes.indexOf('stored')]
    expect(await target.get(key)).toEqual(winner)
  })

  test('a put of the same size and SHA-256 again is success, twenty at once too', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/repeated`
    const body = randomBytes(1000)
    await Promise.all(Array.from({ length: 20 }, () => target.put(key, body)))
    await target.put(key, body, { sha256: sha256(body) })
    expect(await target.get(key)).toEqual(body)
  })

  test('a put never replaces an object: other bytes of the same length are object_conflict', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/kept`
    await target.put(key, Buffer.from('first'))
    expect(await codeOf(target.put(key, Buffer.from('other')))).toBe('object_conflict')
    expect((await target.get(key)).toString()).toBe('first')
  })

  test('only a put that says overwrite replaces, and head then speaks of the new bytes', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/replaced`
    await target.put(key, Buffer.from('first'))
    await target.put(key, Buffer.from('other'), { overwrite: true })
    expect((await target.get(key)).toString()).toBe('other')
    const head = await target.head(key)
    expect(head?.sha256?.equals(sha256(Buffer.from('other'))) ?? true).toBe(true)
  })

  test('a body that does not match its SHA-256 is refused and leaves nothing', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/wrong`
    expect(await codeOf(target.put(key, Buffer.from('body'), { sha256: sha256(Buffer.from('ydob')) }))).toBe('object_damaged')
    expect(await target.head(key)).toBeNull()
  })

  test('an empty object and one of 16 MiB come back as they were', async (context) => {
    const { target } = need(context)
    const folder = freshFolder()
    for (const [name, body] of Object.entries({ empty: Buffer.alloc(0), large: randomBytes(16 * 1024 * 1024) })) {
      await target.put(`${folder}/${name}`, body)
      expect((await target.get(`${folder}/${name}`)).equals(body)).toBe(true)
      const pieces: Buffer[] = []
      for await (const piece of await target.getStream(`${folder}/${name}`)) pieces.push(piece)
      expect(Buffer.concat(pieces).equals(body)).toBe(true)
    }
  })

  const REFUSED = [
    '',
    '/a',
    'a/',
    'a//b',
    '.',
    '..',
    '../a',
    'a/../b',
    'a/./b',
    'a/..',
    'a\\b',
    'a b',
    'a\0b',
    'ä',
    'a%2fb',
    '~tmp/a',
    `${'a'.repeat(256)}`,
  ]
  test('keys that could leave the target or be read in two ways are refused by every call', async (context) => {
    const { target } = need(context)
    for (const key of REFUSED) {
      const calls = [
        target.put(key, Buffer.from('x')),
        target.get(key),
        target.getStream(key),
        target.head(key),
        target.remove(key),
        target.signGet(key),
        target.signPut(key, { size: 1, sha256: Buffer.alloc(32) }),
      ]
      for (const call of calls) expect(await codeOf(call), JSON.stringify(key)).toBe('invalid_name')
    }
    for (const prefix of ['/', '../', 'a', 'a/../', 'a//']) expect(await codeOf(collect(target, prefix))).toBe('invalid_name')
  })

  test('a call whose signal has ended does nothing and ends with the reason', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/aborted`
    const reason = new Error('the job was cancelled')
    const signal = AbortSignal.abort(reason)
    expect(await rejection(target.put(key, Buffer.from('x'), { signal }))).toBe(reason)
    expect(await rejection(target.get(key, { signal }))).toBe(reason)
    expect(await rejection(target.head(key, signal))).toBe(reason)
    expect(await rejection(target.remove(key, signal))).toBe(reason)
    expect(await target.head(key)).toBeNull()
  })

  test('a put that is aborted on its way ends with the reason and leaves a whole object or none', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/aborted`
    const body = randomBytes(32 * 1024 * 1024)
    const stop = new AbortController()
    const reason = new Error('the job was cancelled')
    const put = target.put(key, body, { signal: stop.signal })
    setImmediate(() => stop.abort(reason))
    const outcome = await put.then(
      () => 'stored',
      (error) => error,
    )
    if (outcome !== 'stored') expect(outcome).toBe(reason)
    const head = await target.head(key)
    if (head) expect(head.size).toBe(body.length)
    await target.put(key, body)
    expect((await target.get(key)).equals(body)).toBe(true)
  })
}

function reading(need: Need): void {
  test('ranges give exactly the bytes asked for', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/ranged`
    const body = randomBytes(100_000)
    await target.put(key, body)
    const ranges: Array<[number, number]> = [
      [0, 1],
      [0, 100_000],
      [99_999, 1],
      [4096, 65_536],
    ]
    for (const [offset, length] of ranges) {
      expect(await target.get(key, { offset, length })).toEqual(body.subarray(offset, offset + length))
    }
    expect(await target.get(key, { offset: 99_000 })).toEqual(body.subarray(99_000))
  })

  test('a range beyond the end is object_damaged: whoever wrote it knew a longer object', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/short`
    await target.put(key, Buffer.from('12345'))
    const ranges: Array<[number, number]> = [
      [0, 6],
      [4, 2],
      [5, 1],
      [1000, 10],
    ]
    for (const [offset, length] of ranges) expect(await codeOf(target.get(key, { offset, length }))).toBe('object_damaged')
    expect(await codeOf(target.get(key, { offset: 0, length: 0 }))).toBe('invalid_argument')
    expect(await codeOf(target.get(key, { offset: -1, length: 1 }))).toBe('invalid_argument')
  })

  test('what is not there is object_missing for get and null for head', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/absent`
    expect(await codeOf(target.get(key))).toBe('object_missing')
    expect(await codeOf(target.get(key, { offset: 0, length: 1 }))).toBe('object_missing')
    expect(await codeOf(target.getStream(key))).toBe('object_missing')
    expect(await target.head(key)).toBeNull()
  })

  test('head answers with size, SHA-256 where the facts say so, and a time', async (context) => {
    const { target } = need(context)
    const facts = await target.probe()
    const key = `${freshFolder()}/known`
    const body = randomBytes(5000)
    await target.put(key, body)
    const head = await target.head(key)
    expect(head?.size).toBe(5000)
    expect(head?.sha256).toEqual(facts.checksumOnHead ? sha256(body) : null)
    expect(Math.abs((head?.modified.getTime() ?? 0) - Date.now())).toBeLessThan(60_000)
  })

  test('the probe finds what the service binds and leaves nothing behind', async (context) => {
    const { target } = need(context)
    const facts = await target.probe()
    expect(facts).toMatchObject({ conditionalPut: true, checksumOnPut: true, checksumOnHead: true })
    expect(target.facts).toEqual(facts)
    expect(await collect(target, 'holdfast-probe/')).toEqual([])
  })
}

async function collect(target: StorageTarget, prefix: string, signal?: AbortSignal): Promise<ListedObject[]> {
  const all: ListedObject[] = []
  for await (const object of target.list(prefix, signal)) all.push(object)
  return all
}

function listing(need: Need): void {
  test('a listing of more than a page is complete and in key order', async (context) => {
    const { target } = need(context)
    const folder = freshFolder()
    const names = Array.from({ length: 1100 }, (_, i) => `${folder}/packs/${i}-${randomBase32(4)}`)
    const queue = [...names]
    const worker = async () => {
      for (let name = queue.pop(); name; name = queue.pop()) await target.put(name, Buffer.from(name))
    }
    await Promise.all(Array.from({ length: 16 }, worker))
    const listed = await collect(target, `${folder}/`)
    expect(listed.map((object) => object.key)).toEqual(names.toSorted())
    expect(listed[7]?.size).toBe(listed[7]?.key.length)
  })

  test('key order is that of whole keys: "a-b", "a.b", "a/b", "a0"', async (context) => {
    const { target } = need(context)
    const folder = freshFolder()
    const names = ['a-b', 'a.b/x', 'a/b', 'a/b-c', 'a/c/d', 'a0', 'a_b', 'B']
    for (const name of names) await target.put(`${folder}/${name}`, Buffer.from('x'))
    expect((await collect(target, `${folder}/`)).map((o) => o.key)).toEqual(names.map((n) => `${folder}/${n}`).toSorted())
    expect((await collect(target, `${folder}/a/`)).map((o) => o.key)).toEqual(['b', 'b-c', 'c/d'].map((n) => `${folder}/a/${n}`))
    expect(await collect(target, `${folder}/absent/`)).toEqual([])
  })

  test('a listing can be aborted on its way', async (context) => {
    const { target } = need(context)
    const folder = freshFolder()
    for (const name of ['a', 'b']) await target.put(`${folder}/${name}`, Buffer.from('x'))
    const reason = new Error('enough')
    expect(await rejection(collect(target, `${folder}/`, AbortSignal.abort(reason)))).toBe(reason)
  })
}

function removing(need: Need): void {
  test('a removed object is gone with what was replaced by it, and to remove it again is no error', async (context) => {
    const { target } = need(context)
    const folder = freshFolder()
    const key = `${folder}/keys/1`
    await target.put(key, Buffer.from('first'))
    await target.put(key, Buffer.from('second'), { overwrite: true })
    await target.put(`${key}0`, Buffer.from('another key with the same beginning'))
    await target.remove(key)
    await target.remove(key)
    expect(await target.head(key)).toBeNull()
    expect((await collect(target, `${folder}/`)).map((object) => object.key)).toEqual([`${key}0`])
  })

  test('a key can be put again after its removal, also while its folder empties', async (context) => {
    const { target } = need(context)
    const folder = freshFolder()
    await target.put(`${folder}/deep/er/a`, Buffer.from('one'))
    for (let i = 0; i < 20; i++) {
      await Promise.all([target.remove(`${folder}/deep/er/a`), target.put(`${folder}/deep/er/b${i}`, Buffer.from('two'))])
      expect(await target.head(`${folder}/deep/er/b${i}`)).not.toBeNull()
      await Promise.all([target.remove(`${folder}/deep/er/b${i}`), target.put(`${folder}/deep/er/a`, Buffer.from('one'))])
      expect((await target.get(`${folder}/deep/er/a`)).toString()).toBe('one')
    }
  })
}
