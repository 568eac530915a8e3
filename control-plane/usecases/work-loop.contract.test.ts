import pino from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { waitFor } from '../../test/harness/wait.ts'
import { recordAccepted, renewLeases } from '../catalog/job-reports.ts'
import { createJob, getJob } from '../catalog/jobs.ts'
import { jobFixture } from '../catalog/jobs-fixture.ts'
import type { Session } from '../fleet/live-session.ts'
import type { ControlPlane } from './control-plane.ts'
import type { AgentSessions } from './handle-session.ts'
import { WorkLoop } from './work-loop.ts'

const LEASE_MS = 60_000

describe.each(await catalogsUnderTest())('a round of work, $kind', ({ open }) => {
  let under: TestCatalog
  const clock = new FakeClock()
  const fixture = jobFixture(() => under.catalog.db, clock)
  beforeAll(async () => {
    under = await open()
  })
  afterAll(() => under.dispose())

  /** One round, in which `afterRenewal` happens between the renewal of leases and their end. */
  async function round(held: Session[], afterRenewal: () => void): Promise<void> {
    const limits = { parallelJobsPerAgent: 2, parallelJobs: 50 }
    const settings = { leaseSeconds: LEASE_MS / 1000, ...limits }
    const cp = {
      catalog: under.catalog,
      clock,
      settings,
      log: pino({ level: 'silent' }),
      finished: () => undefined,
      wake: () => undefined,
    }
    const renew = (session: Session) =>
      renewLeases(under.catalog.db, session, new Date(clock.now().getTime() + LEASE_MS)).then(afterRenewal)
    const loop = new WorkLoop(cp as unknown as ControlPlane, { renew } as unknown as AgentSessions, () => held)
    await clock.advance(LEASE_MS + 1000)
    loop.start()
    await waitFor('the round to be over', () => clock.sleeping > 0)
    await loop.stop()
  }

  test.each([
    ['a clock that jumps gives no attempt up whose stream stands', true, 'running'],
    ['an attempt without a stream ends by its lease', false, 'queued'],
  ])('%s', async (_name, standing, state) => {
    const { db } = under.catalog
    const host = await fixture.newHost()
    const job = await createJob(db, fixture.backupJob(host), clock.now())
    const claimed = fixture.only(await fixture.claim(host))
    await recordAccepted(db, fixture.ref(host, claimed), clock.now(), new Date(clock.now().getTime() + LEASE_MS))
    const session = { agentId: host.agentId, epoch: host.epoch, send: async () => undefined } as unknown as Session
    await round(standing ? [session] : [], () => clock.setWall(new Date(clock.now().getTime() + 3_600_000)))
    expect(await getJob(db, job.id)).toMatchObject({ state })
  })
})
