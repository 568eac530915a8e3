import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { agentById } from '../../control-plane/catalog/identity-agents.ts'
import { revokeAgent } from '../../control-plane/usecases/revoke-agent.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import { TestFleet } from '../harness/fleet.ts'
import { tookByClock, waitFor } from '../harness/wait.ts'

let clock: FakeClock
let fleet: TestFleet
beforeEach(async () => {
  clock = new FakeClock(new Date())
  fleet = await TestFleet.start(clock)
})
afterEach(() => fleet.dispose())

describe('a stream ends within 5 s of a revocation, on whichever control plane holds it', () => {
  test.each(['where it is held', 'from another control plane'])('told %s', async (where) => {
    const [one, two] = [await fleet.plane(), await fleet.plane()]
    const { home } = await fleet.enrolled(one, 'db1')
    const link = await fleet.link(home)
    await waitFor('the link', () => link.connected)
    const session = one.servers.sessions.get(link.identity.agentId)
    // the use case knows nothing of who holds the stream: the catalog tells every control plane
    await revokeAgent(fleet, { name: 'db1', reason: 'the disk was stolen' })
    if (where !== 'where it is held') await two.servers.checkSessions()
    expect(await tookByClock('the end', clock, () => session?.signal.aborted)).toBeLessThan(5000)
    await waitFor('the reason on the agent', () => link.trouble)
    expect(link.trouble).toMatchObject({ code: 'certificate_revoked', message: expect.stringContaining('stolen') })
    await waitFor('the audit', () =>
      fleet.audit.some((event) => event.subject === 'db1' && event.detail.code === 'certificate_revoked'),
    )
    expect(one.servers.sessions.get(link.identity.agentId)).toBeUndefined()
  })

  test('NOTIFY wakes, a poll every 2 s decides: a lost notification costs 2 s', async () => {
    const plane = await fleet.plane()
    const { home } = await fleet.enrolled(plane, 'db1')
    const link = await fleet.link(home)
    await waitFor('the link', () => link.connected)
    const session = plane.servers.sessions.get(link.identity.agentId)
    // written past the use case: nobody is notified
    await fleet.catalog.db.execute(sql`update certificates set revoked_at = now(), revoked_reason = 'by hand'`)
    expect(await tookByClock('the end', clock, () => session?.signal.aborted)).toBeLessThan(5000)
  })

  test('it may be said twice, frees the name, and says what there is not', async () => {
    const plane = await fleet.plane()
    const { identity } = await fleet.enrolled(plane, 'db1')
    await revokeAgent(fleet, { name: 'db1', reason: 'first' })
    expect(await revokeAgent(fleet, { name: 'db1', reason: 'second' })).toMatchObject({ state: 'revoked', stateReason: 'first' })
    expect((await fleet.enrolled(plane, 'db1', { folder: 'again' })).identity.agentId).not.toBe(identity.agentId)
    expect((await agentById(fleet.catalog.db, identity.agentId))?.state).toBe('revoked')
    await expect(revokeAgent(fleet, { name: 'nobody', reason: '' })).rejects.toMatchObject({ code: 'not_found' })
  })
})
