import { eq } from 'drizzle-orm'
import pino from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { JobOutcome, JobResult } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import { type Hello, JournalState } from '../../shared/generated/holdfast/agent/v1/session.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { connectHost, type TestHost } from '../catalog/fleet-fixture.ts'
import { createJob, getJob, type NewJob } from '../catalog/jobs.ts'
import { jobFixture } from '../catalog/jobs-fixture.ts'
import { jobAttempts } from '../catalog/schema/schema.ts'
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
  async function dispatched(kind: 'backup' | 'dry run' | 'restore' = 'backup'): Promise<{ host: TestHost; jobId: string }> {
    const host = await fixture.newHost()
    const job = await createJob(under.catalog.db, fixture.backupJob(host, await more(kind, host)), clock.now())
    fixture.only(await fixture.claim(host))
    return { host, jobId: job.id }
  }

  async function more(kind: 'backup' | 'dry run' | 'restore', host: TestHost): Promise<Partial<NewJob>> {
    if (kind === 'backup') return {}
    if (kind === 'dry run') return { spec: { kind: 'backup', type: 'incremental', target: 'primary', dry_run: true } }
    const backup_id = (await fixture.backUp(host)).job.backupId ?? ''
    return { spec: { kind: 'restore', backup_id, via_source: 'app', target_name: 'copy' }, place: `${host.host}/copy` }
  }

  async function comeBack(host: TestHost, journal: Hello['journal'], meanwhile = async () => {}): Promise<void> {
    await connectHost(under.catalog.db, host, clock.now())
    await meanwhile()
    const sources = [{ name: 'app', engine: 'fake', labels: {}, facts: {} }]
    await sessions.onConnected(sessionOf(host), { sources, journal } as unknown as Hello)
  }

  const attemptsOf = (jobId: string) => under.catalog.db.select().from(jobAttempts).where(eq(jobAttempts.jobId, jobId))

  const sessionOf = ({ agentId, epoch }: TestHost) => ({ agentId, epoch, send: async () => undefined }) as unknown as Session

  test('what the journal holds was taken, though the word of that was lost with the stream before', async () => {
    const { host, jobId } = await dispatched()
    await comeBack(host, [{ jobId, attempt: 1, state: JournalState.RUNNING }])
    expect(await getJob(under.catalog.db, jobId)).toMatchObject({ state: 'running', attempt: 1 })
  })

  test('a result says that the command was taken, whose word was lost with the stream before', async () => {
    const { host, jobId } = await dispatched('dry run')
    await comeBack(host, [{ jobId, attempt: 1, state: JournalState.FINISHED }])
    const session = sessionOf(host)
    const value = JobResult.create({ jobId, attempt: 1, outcome: JobOutcome.SUCCEEDED })
    await sessions.onMessage(session, { $case: 'jobResult', value })
    expect(await getJob(under.catalog.db, jobId)).toMatchObject({ state: 'succeeded', attempt: 1, startedAt: clock.now() })
  })

  test('what it does not hold was not, and is given out again at once', async () => {
    const { host, jobId } = await dispatched()
    await comeBack(host, [])
    expect(await getJob(under.catalog.db, jobId)).toMatchObject({ state: 'queued', attempt: 1, errorCode: 'job_lost' })
    expect(await attemptsOf(jobId)).toMatchObject([{ attempt: 1, outcome: 'lost', endConfirmed: true }])
  })

  test('a lost restore that it never took waits for nobody', async () => {
    const { host, jobId } = await dispatched('restore')
    await clock.advance(61_000)
    expect(await fixture.expire(host)).toMatchObject([{ id: jobId, state: 'lost' }])
    await comeBack(host, [{ jobId: 'jother0000000000', attempt: 1, state: JournalState.RUNNING }])
    expect(await getJob(under.catalog.db, jobId)).toMatchObject({ state: 'queued', attempt: 1 })
  })

  test('a lost restore that it had taken waits for its word, though its journal does not hold it any more', async () => {
    const { host, jobId } = await dispatched('restore')
    await comeBack(host, [{ jobId, attempt: 1, state: JournalState.RUNNING }])
    await clock.advance(61_000)
    expect(await fixture.expire(host)).toMatchObject([{ id: jobId, state: 'lost' }])
    await comeBack(host, [])
    expect(await getJob(under.catalog.db, jobId)).toMatchObject({ state: 'lost', attempt: 1 })
  })

  test('what went out on the stream that begins is not lost', async () => {
    const host = await fixture.newHost()
    const job = await createJob(under.catalog.db, fixture.backupJob(host), clock.now())
    await comeBack(host, [], async () => void fixture.only(await fixture.claim(host)))
    expect(await getJob(under.catalog.db, job.id)).toMatchObject({ state: 'dispatched', attempt: 1 })
  })

  test('an attempt that is not the current one changes nothing', async () => {
    const { host, jobId } = await dispatched()
    await comeBack(host, [
      { jobId, attempt: 7, state: JournalState.RUNNING },
      { jobId: 'junknown00000000', attempt: 1, state: JournalState.ACCEPTED },
    ])
    expect(await getJob(under.catalog.db, jobId)).toMatchObject({ state: 'queued', attempt: 1 })
  })
})
