import pino from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { waitFor } from '../../test/harness/wait.ts'
import { recordAccepted, renewLeases } from '../catalog/job-reports.ts'
import { createJob, getJob } from '../catalog/jobs.ts'
import { jobFixture } from '../catalog/jobs-fixture.ts'
import type { Session, ToAgent } from '../fleet/live-session.ts'
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

  /** At rest: nothing tells it of anything. */
  async function resting(held: Session[], afterRenewal: () => void, instanceId = ''): Promise<WorkLoop> {
    const limits = { parallelJobsPerAgent: 2, parallelJobs: 50 }
    const settings = { leaseSeconds: LEASE_MS / 1000, ...limits }
    const cp = {
      catalog: under.catalog,
      clock,
      settings,
      log: pino({ level: 'silent' }),
      finished: () => undefined,
      wake: () => undefined,
      instanceId,
      fleet: { recipient: 'age1fleet', recoveryRecipients: ['age1recovery'] },
    }
    const renew = (session: Session) =>
      renewLeases(under.catalog.db, session, new Date(clock.now().getTime() + LEASE_MS)).then(afterRenewal)
    const loop = new WorkLoop(cp as unknown as ControlPlane, { renew } as unknown as AgentSessions, () => held)
    await clock.advance(LEASE_MS + 1000)
    loop.start()
    await waitFor('the round to be over', () => clock.sleeping > 0)
    return loop
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
    const loop = await resting(standing ? [session] : [], () => clock.setWall(new Date(clock.now().getTime() + 3_600_000)))
    await loop.stop()
    expect(await getJob(db, job.id)).toMatchObject({ state })
  })

  test('a job that no notification told of is given out by the next poll, 2 s later', async () => {
    const { db } = under.catalog
    const host = await fixture.newHost()
    const sent: ToAgent[] = []
    const send = async (message: ToAgent) => void (message.$case === 'jobCommand' && sent.push(message))
    const session = { agentId: host.agentId, epoch: host.epoch, send } as unknown as Session
    const loop = await resting([session], () => undefined, host.instanceId)
    const { id } = await createJob(db, fixture.backupJob(host), clock.now())
    await clock.advance(1999)
    expect(clock.sleeping, 'it still rests').toBe(1)
    expect(sent).toEqual([])
    await clock.advance(1)
    await waitFor('the command to go out', () => sent.length > 0)
    await loop.stop()
    expect(sent).toMatchObject([{ $case: 'jobCommand', value: { jobId: id, attempt: 1 } }])
  })
})
