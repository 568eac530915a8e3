import pino from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { JobOutcome, JobResult } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import { type Hello, JournalState } from '../../shared/generated/holdfast/agent/v1/session.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { connectHost, type TestHost } from '../catalog/fleet-fixture.ts'
import { createJob, getJob, type NewJob } from '../catalog/jobs.ts'
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
  async function dispatched(more: Partial<NewJob> = {}): Promise<{ host: TestHost; jobId: string }> {
    const host = await fixture.newHost()
    const job = await createJob(under.catalog.db, fixture.backupJob(host, more), clock.now())
    fixture.only(await fixture.claim(host))
    return { host, jobId: job.id }
  }

  async function comeBack(host: TestHost, journal: Hello['journal']): Promise<void> {
    await connectHost(under.catalog.db, host, clock.now())
    const sources = [{ name: 'app', engine: 'fake', labels: {}, facts: {} }]
    await sessions.onConnected(sessionOf(host), { sources, journal } as unknown as Hello)
  }

  const sessionOf = ({ agentId, epoch }: TestHost) => ({ agentId, epoch, send: async () => undefined }) as unknown as Session

  test('what the journal holds was taken, though the word of that was lost with the stream before', async () => {
    const { host, jobId } = await dispatched()
    await comeBack(host, [{ jobId, attempt: 1, state: JournalState.RUNNING }])
    expect(await getJob(under.catalog.db, jobId)).toMatchObject({ state: 'running', attempt: 1 })
  })

  test('a result says that the command was taken, whose word was lost with the stream before', async () => {
    const { host, jobId } = await dispatched({ spec: { kind: 'backup', type: 'incremental', target: 'primary', dry_run: true } })
    await comeBack(host, [{ jobId, attempt: 1, state: JournalState.FINISHED }])
    const session = sessionOf(host)
    const value = JobResult.create({ jobId, attempt: 1, outcome: JobOutcome.SUCCEEDED })
    await sessions.onMessage(session, { $case: 'jobResult', value })
    expect(await getJob(under.catalog.db, jobId)).toMatchObject({ state: 'succeeded', attempt: 1, startedAt: clock.now() })
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
