import { eq } from 'drizzle-orm'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { HoldfastError } from '../../shared/errors.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { makeHost, type TestHost } from '../catalog/fleet-fixture.ts'
import { deletePolicy, putPolicy } from '../catalog/policies.ts'
import { policies } from '../catalog/schema/schema.ts'
import type { Session, ToAgent } from '../fleet/live-session.ts'
import type { ControlPlane } from './control-plane.ts'
import { SendLimits } from './send-limits.ts'

describe.each(await catalogsUnderTest())('what agents are told of their limits, $kind', ({ open }) => {
  let under: TestCatalog
  let mine: TestHost
  let other: TestHost
  const clock = new FakeClock('2026-11-20T06:00:00Z')
  beforeAll(async () => {
    under = await open()
    mine = await makeHost(under.catalog.db, clock.now())
    other = await makeHost(under.catalog.db, clock.now())
  })
  afterEach(() => deletePolicy(under.catalog.db, 'line'))
  afterAll(() => under.dispose())

  const limits = () => new SendLimits({ catalog: under.catalog, clock } as unknown as ControlPlane)
  function stream(host: TestHost): { session: Session; uploads: bigint[] } {
    const uploads: bigint[] = []
    const send = async (message: ToAgent) => void (message.$case === 'limits' && uploads.push(message.value.uploadBytesPerSecond))
    return { session: { agentId: host.agentId, send } as unknown as Session, uploads }
  }
  const limit = (said: object) =>
    putPolicy(
      under.catalog.db,
      'line',
      { select: { sources: [`${mine.host}/*`] }, targets: ['primary'], limits: said },
      clock.now(),
    )

  test('on each stream once, and again when a policy that selects a source of theirs changes or the time of day does', async () => {
    const [one, two, sending] = [stream(mine), stream(other), limits()]
    const round = () => sending.tell([one.session, two.session])
    await round()
    await round()
    await limit({ upload: '9MB/s', windows: [{ from: '08:00', to: '18:00', upload: '1MB/s' }] })
    await round()
    await round()
    await clock.advance(2 * 3_600_000)
    await round()
    await clock.advance(10 * 3_600_000)
    await round()
    await deletePolicy(under.catalog.db, 'line')
    await round()
    expect(one.uploads).toEqual([0n, 9_000_000n, 1_000_000n, 9_000_000n, 0n])
    expect(two.uploads).toEqual([0n])
    const newer = stream(mine)
    await sending.tell([newer.session])
    expect(newer.uploads).toEqual([0n])
  })

  test('before any job: a stream on which nothing went out counts as not told', async () => {
    const sending = limits()
    const { session } = stream(mine)
    expect(sending.told(session)).toBe(false)
    const over = {
      ...session,
      send: () => Promise.reject(new HoldfastError('session_superseded', 'the stream has ended')),
    } as unknown as Session
    await sending.tell([over, session])
    expect([sending.told(over), sending.told(session)]).toEqual([false, true])
  })

  test('by a policy that cannot be read nothing is limited, and others are', async () => {
    await limit({ upload: '9MB/s' })
    await putPolicy(under.catalog.db, 'strange', { targets: ['primary'] }, clock.now())
    const spec = { targets: ['primary'], limits: { upload: 'of a later version' } }
    await under.catalog.db.update(policies).set({ spec }).where(eq(policies.name, 'strange'))
    const { session, uploads } = stream(mine)
    await limits().tell([session])
    expect(uploads).toEqual([9_000_000n])
    await deletePolicy(under.catalog.db, 'strange')
  })
})
