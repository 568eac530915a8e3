import { afterEach, expect, test } from 'vitest'
import { HoldfastError } from '../../shared/errors.ts'
import { authorization, type FakeApi, fakeApi } from './testing/fake-api.ts'
import { job } from './testing/fake-operations.ts'

let api: FakeApi
afterEach(() => api.app.close())

const start = (body: object, key = 'k1', who: 'operator' | 'admin' = 'operator') =>
  api.app.inject({ method: 'POST', url: '/api/v1/backups', headers: { ...authorization(who), 'idempotency-key': key }, body })

test('the same key with the same request is done once and answered the same', async () => {
  api = await fakeApi()
  const first = await start({ type: 'full', sources: ['db1/app'] })
  // the order of names in JSON means nothing
  const again = await start({ sources: ['db1/app'], type: 'full' })
  expect(again.statusCode).toBe(first.statusCode)
  expect(again.json()).toEqual(first.json())
  expect(again.headers['idempotent-replayed']).toBe('true')
  expect(api.operations.calls).toHaveLength(1)
  expect(api.audit).toHaveLength(1)
})

test('the same key with another request is refused', async () => {
  api = await fakeApi()
  await start({ type: 'full' })
  const other = await start({ type: 'incremental' })
  expect([other.statusCode, other.json().code]).toEqual([422, 'idempotency_mismatch'])
  expect(api.operations.calls).toHaveLength(1)
})

test('keys of two callers are two', async () => {
  api = await fakeApi()
  await start({ type: 'full' }, 'k1', 'operator')
  expect((await start({ type: 'incremental' }, 'k1', 'admin')).statusCode).toBe(202)
})

test('while the first is at work its repetition is refused', async () => {
  let release = (): void => undefined
  let entered = (): void => undefined
  const inside = new Promise<void>((resolve) => (entered = resolve))
  const held = new Promise<void>((resolve) => (release = resolve))
  api = await fakeApi({
    startBackup: async () => {
      entered()
      await held
      return [job()]
    },
  })
  const first = start({})
  first.then(() => undefined)
  await inside
  const second = await start({})
  expect([second.statusCode, second.json()]).toMatchObject([409, { code: 'conflict', retry: true }])
  release()
  expect((await first).statusCode).toBe(202)
  expect((await start({})).statusCode).toBe(202)
})

test('a refusal is kept when it is final, not when the same may succeed later', async () => {
  const errors = [
    new HoldfastError('overlap', 'another backup runs'),
    new HoldfastError('not_supported', 'no tenants here'),
    new HoldfastError('internal', 'never asked'),
  ]
  api = await fakeApi({
    startBackup: async () => {
      throw errors.shift()
    },
  })
  const answers = [await start({}), await start({}), await start({})]
  expect(answers.map((one) => one.json().code)).toEqual(['overlap', 'not_supported', 'not_supported'])
  expect(answers[2]?.headers['content-type']).toMatch(/^application\/problem\+json/)
})

test('a secret is shown once: the repetition says so, and nothing of it is kept', async () => {
  const kept: unknown[] = []
  api = await fakeApi()
  await api.app.close()
  const { memoryIdempotency } = await import('./testing/fake-api.ts')
  const store = memoryIdempotency()
  api = await fakeApi({}, { idempotency: { ...store, finish: (at, answer) => (kept.push(answer), store.finish(at, answer)) } })
  const ask = () =>
    api.app.inject({
      method: 'POST',
      url: '/api/v1/agents/invitations',
      headers: { ...authorization('operator'), 'idempotency-key': 'k' },
      body: { name: 'db1' },
    })
  expect((await ask()).json().token).toBe('hft_secret')
  const again = await ask()
  expect([again.statusCode, again.json().code]).toEqual([409, 'already_exists'])
  expect(JSON.stringify(kept)).not.toContain('hft_secret')
})

test('a key that no header may hold is refused', async () => {
  api = await fakeApi()
  expect((await start({}, 'x'.repeat(201))).statusCode).toBe(400)
  expect((await start({}, 'two words')).statusCode).toBe(400)
})
