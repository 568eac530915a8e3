import type { FakeClock } from '../../shared/fake-clock.ts'
import type { Db } from './catalog.ts'
import { type ClaimedJob, claimJobs } from './claim-jobs.ts'
import { beginCommit } from './commits.ts'
import { makeHost, type TestHost } from './fleet-fixture.ts'
import { type AttemptRef, beginValidation, expireLeases, finishAttempt, recordAccepted } from './job-reports.ts'
import { createJob, type NewJob } from './jobs.ts'

/** The steps of which the stories of jobs are made, on whichever catalog `db` gives. */
export function jobFixture(db: () => Db, clock: FakeClock) {
  const now = () => clock.now()
  const later = (ms: number) => new Date(clock.now().getTime() + ms)

  const newHost = () => makeHost(db(), now())
  const backupJob = (host: TestHost, more: Partial<NewJob> = {}): NewJob => ({
    spec: { kind: 'backup', type: 'incremental', target: 'primary' },
    agentId: host.agentId,
    sourceId: host.source.id,
    requestedBy: 'test',
    maxAttempts: 3,
    deadlineSeconds: 3600,
    ...more,
  })
  const claim = (host: TestHost, more: { perAgent?: number; instanceId?: string } = {}) =>
    claimJobs(
      db(),
      {
        instanceId: more.instanceId ?? host.instanceId,
        agentIds: [host.agentId],
        limits: { perAgent: more.perAgent ?? 4, fleet: 10_000 },
        recipients: { fleet: 'age1fleet', recovery: ['age1recovery'] },
        leaseUntil: later(60_000),
      },
      now(),
    )
  const expire = async (host: TestHost) => (await expireLeases(db(), now())).filter((job) => job.agentId === host.agentId)
  const ref = (host: TestHost, claimed: ClaimedJob): AttemptRef => ({
    by: { agentId: host.agentId, epoch: host.epoch },
    jobId: claimed.job.id,
    attempt: claimed.job.attempt,
  })
  const only = <T>(items: T[]): T => {
    if (items.length !== 1) throw new Error(`one was expected, not ${items.length}`)
    return items[0] as T
  }

  /** A whole backup; time moves on so that it is newer than the one before. */
  async function backUp(host: TestHost, more: Partial<NewJob> = {}): Promise<ClaimedJob> {
    await clock.advance(1000)
    await createJob(db(), backupJob(host, more), now())
    const claimed = only(await claim(host))
    const of = ref(host, claimed)
    await recordAccepted(db(), of, now(), later(60_000))
    await commit(host, claimed)
    await beginValidation(db(), { ...of, by: 'control-plane' }, now(), later(60_000))
    await finishAttempt(db(), { ...of, by: 'control-plane' }, { outcome: 'succeeded' }, now())
    return claimed
  }

  function commit(host: TestHost, claimed: ClaimedJob, more: { leansOn?: string[]; manifest?: string } = {}) {
    const dispatch = claimed.dispatch
    if (!dispatch) throw new Error('no dispatch')
    const leansOn = more.leansOn ?? [...(dispatch.base ? [dispatch.base.id] : []), ...dispatch.leanedOn.map((base) => base.id)]
    return beginCommit(
      db(),
      { by: { agentId: host.agentId, epoch: null }, jobId: claimed.job.id, attempt: claimed.job.attempt },
      { type: dispatch.type, leansOn, recipients: dispatch.recipients, readBytes: 100, storedBytes: 10, totalCount: 5 },
      now(),
      ({ sequence, predecessor }) => Buffer.from(JSON.stringify([more.manifest, sequence, predecessor?.toString('hex')])),
    )
  }

  return { newHost, backupJob, claim, expire, ref, only, backUp, commit }
}
