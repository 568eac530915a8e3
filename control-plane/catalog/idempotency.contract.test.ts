import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { IDEMPOTENCY_MS, type IdempotencyStore, idempotencyStore } from './idempotency.ts'

describe.each(await catalogsUnderTest())('idempotency keys, $kind', ({ open }) => {
  let under: TestCatalog
  let store: IdempotencyStore
  const clock = new FakeClock()
  beforeAll(async () => {
    under = await open()
    store = idempotencyStore(under.catalog, clock)
  })
  afterAll(() => under.dispose())

  const request = (key: string, body = 1) => ({ keyId: 'k1', key, requestSha256: Buffer.alloc(32, body) })

  test('of requests at the same time with one key one is new, the others see it at work', async () => {
    const found = await Promise.all(Array.from({ length: 5 }, () => store.begin(request('race'))))
    expect(found.map((one) => one.state).sort()).toEqual(['at_work', 'at_work', 'at_work', 'at_work', 'new'])
  })

  test('once answered, the same request gets the answer and another one is told so', async () => {
    await store.begin(request('answered'))
    await store.finish(request('answered'), { status: 202, response: { id: 'j1' } })
    expect(await store.begin(request('answered'))).toEqual({ state: 'answered', status: 202, response: { id: 'j1' } })
    expect(await store.begin(request('answered', 2))).toEqual({ state: 'other_request' })
    expect(await store.begin({ ...request('answered'), keyId: 'k2' })).toEqual({ state: 'new' })
  })

  test('one that was forgotten is new again', async () => {
    await store.begin(request('forgotten'))
    await store.forget(request('forgotten'))
    expect(await store.begin(request('forgotten', 2))).toEqual({ state: 'new' })
  })

  test('after a day a key is free again, also when its control plane died at work', async () => {
    await store.begin(request('old'))
    await clock.advance(IDEMPOTENCY_MS - 1000)
    expect(await store.begin(request('old'))).toEqual({ state: 'at_work' })
    await clock.advance(2000)
    expect(await store.begin(request('old'))).toEqual({ state: 'new' })
  })
})
