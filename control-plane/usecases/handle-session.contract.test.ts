import pino from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { type Hello, JournalState } from '../../shared/generated/holdfast/agent/v1/session.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { connectHost, type TestHost } from '../catalog/fleet-fixture.ts'
import { createJob, getJob } from '../catalog/jobs.ts'
import { jobFixture } from '../catalog/jobs-fixture.ts'
import type { Session } from '../fleet/live-session.ts'
import type { ControlPlane } from './control-plane.ts'
import { AgentSessions } from './handle-session.ts'

describe.each(await catalogsUnderTest())('a stream that begins, $kind', ({ open }) => {
  let under: TestCatalog
  let sessions: AgentSessions
  const clock = new FakeClock()
  const fixture = jobFixture(() => under.catalog.db, clock)

  beforeAll(async () => {
    under = await open()
    const settings = { leaseSeconds: 60 }
    const cp = { catalog: under.catalog, clock, settings, log: pino({ level: 'silent' }), wake: () => undefined }
    sessions = new AgentSessions(cp as unknown as ControlPlane)
  })
  afterAll(() => under.dispose())

  /** With a job that the agent was told of. */
  async function dispatched(): Promise<{ host: TestHost; jobId: string }> {
    const host = await fixture.newHost()
    const job = await createJob(under.catalog.db, fixture.backupJob(host), clock.now())
    fixture.only(await fixture.claim(host))
    return { host, jobId: job.id }
  }

  async function comeBack(host: TestHost, journal: Hello['journal']): Promise<void> {
    await connectHost(under.catalog.db, host, clock.now())
    const sources = [{ name: 'app', engine: 'fake', labels: {}, facts: {} }]
    const session = { agentId: host.agentId, epoch: host.epoch, send: async () => undefined }
    await sessions.onConnected(session as unknown as Session, { sources, journal } as unknown as Hello)
  }

  test('what the journal holds was taken, though the word of that was lost with the stream before', async () => {
    const { host, jobId } = await dispatched()
    await comeBack(host, [{ jobId, attempt: 1, state: JournalState.RUNNING }])
    expect(await getJob(under.catalog.db, jobId)).toMatchObject({ state: 'running', attempt: 1 })
  })

  test('what it does not hold was not, and ends by its lease', async () => {
    const { host, jobId } = await dispatched()
    await comeBack(host, [])
    expect(await getJob(under.catalog.db, jobId)).toMatchObject({ state: 'dispatched' })
    await clock.advance(61_000)
    expect(await fixture.expire(host)).toMatchObject([{ id: jobId, state: 'queued' }])
  })

  test('an attempt that is not the current one changes nothing', async () => {
    const { host, jobId } = await dispatched()
    await comeBack(host, [
      { jobId, attempt: 7, state: JournalState.RUNNING },
      { jobId: 'junknown00000000', attempt: 1, state: JournalState.ACCEPTED },
    ])
    expect(await getJob(under.catalog.db, jobId)).toMatchObject({ state: 'dispatched', attempt: 1 })
  })
})
