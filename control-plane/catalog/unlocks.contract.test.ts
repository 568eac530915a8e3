import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import type { ClaimedJob } from './claim-jobs.ts'
import type { TestHost } from './fleet-fixture.ts'
import { listEvents } from './job-events.ts'
import { finishAttempt, recordAccepted } from './job-reports.ts'
import { createJob, getJob, requestCancel } from './jobs.ts'
import { jobFixture } from './jobs-fixture.ts'
import { deletePolicy, putPolicy } from './policies.ts'
import { askUnlock, requireWaiting, unlock, unlockOf } from './unlocks.ts'

const catalogs = await catalogsUnderTest()

describe.each(catalogs)('backups without the fleet’s recipient, $kind', ({ open }) => {
  let under: TestCatalog
  const clock = new FakeClock()
  const now = () => clock.now()
  const later = (ms: number) => new Date(clock.now().getTime() + ms)
  beforeAll(async () => {
    under = await open()
  })
  afterAll(() => under.dispose())

  const { newHost, claim, only, backUp, ref } = jobFixture(() => under.catalog.db, clock)
  const withPolicy = async (host: TestHost, recipients: 'all' | 'recovery') => {
    const select = { sources: [`${host.host}/*`] }
    await putPolicy(under.catalog.db, host.host, { select, targets: ['primary'], recipients }, now())
  }

  describe('a run', () => {
    test('is sealed as the strictest of the policies that select its source says', async () => {
      const host = await newHost()
      expect((await backUp(host)).dispatch).toMatchObject({ recipients: ['age1fleet', 'age1recovery'] })
      await putPolicy(under.catalog.db, 'every', { targets: ['primary'] }, now())
      await withPolicy(host, 'recovery')
      expect((await backUp(host)).dispatch).toMatchObject({ recipients: ['age1recovery'] })
      expect((await backUp(await newHost())).dispatch).toMatchObject({ recipients: ['age1fleet', 'age1recovery'] })
      await deletePolicy(under.catalog.db, 'every')
    })

    test('is a full that says why when the setting has changed, and leans again from then on', async () => {
      const host = await newHost()
      await backUp(host)
      expect((await backUp(host)).dispatch).toMatchObject({ type: 'incremental', reason: null })
      for (const recipients of ['recovery', 'all'] as const) {
        await withPolicy(host, recipients)
        expect((await backUp(host)).dispatch).toMatchObject({ type: 'full', reason: 'base_recipients_differ', leanedOn: [] })
        expect((await backUp(host)).dispatch).toMatchObject({ type: 'incremental', reason: null })
      }
    })

    test('keeps in its further attempts to what it began with: the first one’s key file lies in the store', async () => {
      const host = await newHost()
      await backUp(host)
      await createJob(
        under.catalog.db,
        {
          spec: { kind: 'backup', type: 'full', target: 'primary' },
          agentId: host.agentId,
          sourceId: host.source.id,
          requestedBy: 'test',
          maxAttempts: 3,
          deadlineSeconds: 60,
        },
        now(),
      )
      const first = only(await claim(host))
      await withPolicy(host, 'recovery')
      const error = { code: 'tool_failed', message: 'no' }
      await finishAttempt(under.catalog.db, ref(host, first), { outcome: 'failed', error, retryable: true }, now())
      await clock.advance(3_600_000)
      expect(only(await claim(host)).dispatch).toMatchObject({ recipients: ['age1fleet', 'age1recovery'] })
    })
  })

  describe('an unlock', () => {
    async function restoring(): Promise<{ host: TestHost; claimed: ClaimedJob; jobId: string; ask: Asks }> {
      const host = await newHost()
      await withPolicy(host, 'recovery')
      const { job } = await backUp(host)
      const restore = { kind: 'restore', backup_id: job.backupId ?? '', via_source: 'app', target_name: 'copy' } as const
      const made = {
        agentId: host.agentId,
        requestedBy: 'test',
        maxAttempts: 3,
        deadlineSeconds: 3600,
        place: `${host.host}/copy`,
      }
      await createJob(under.catalog.db, { ...made, spec: restore }, now())
      const claimed = only(await claim(host))
      await recordAccepted(under.catalog.db, ref(host, claimed), now(), later(60_000))
      const jobId = claimed.job.id
      const ask: Asks = (recipient, attempt = claimed.job.attempt) =>
        askUnlock(under.catalog.db, { jobId, attempt, recipient, expiresAt: later(60_000) }, now())
      return { host, claimed, jobId, ask }
    }
    type Asks = (recipient: string, attempt?: number) => ReturnType<typeof askUnlock>
    const files = [{ backup_id: 'b', attempt: 1, file: 'aa==' }]
    const give = (jobId: string, recipient: string) => unlock(under.catalog.db, { jobId, recipient, files, by: 'key:ops' }, now())

    test('is needed by a job that reads such a backup, and by no other', async () => {
      const { claimed } = await restoring()
      expect(claimed.needsUnlock).toBe(true)
      const other = await newHost()
      const { job, needsUnlock } = await backUp(other)
      expect(needsUnlock).toBe(false)
      const verify = { kind: 'verify', backup_id: job.backupId ?? '' } as const
      const made = { agentId: other.agentId, requestedBy: 'test', maxAttempts: 3, deadlineSeconds: 3600 }
      await createJob(under.catalog.db, { ...made, spec: verify }, now())
      expect(only(await claim(other)).needsUnlock).toBe(false)
    })

    test('waits for one key, which does not change within an attempt; it is said once, with what to do', async () => {
      const { jobId, ask } = await restoring()
      const asked = await ask('age1job')
      expect(await ask('age1job')).toEqual(asked)
      await expect(ask('age1thief')).rejects.toMatchObject({ code: 'conflict' })
      await expect(ask('age1job', 2)).rejects.toMatchObject({ code: 'attempt_fenced' })
      const said = (await listEvents(under.catalog.db, jobId)).filter((event) => event.type === 'finding')
      expect(said.map((event) => event.data)).toEqual([
        expect.objectContaining({ code: 'unlock_needed', hint: expect.stringContaining(`holdfast unlock ${jobId}`) }),
      ])
      expect((await getJob(under.catalog.db, jobId)).unlock).toMatchObject({ recipient: 'age1job', unlockedAt: null })
    })

    test('is taken once, for the key that the job has, while it waits', async () => {
      const { jobId, ask } = await restoring()
      await expect(give(jobId, 'age1job')).rejects.toMatchObject({ code: 'job_state' })
      await ask('age1job')
      await expect(give(jobId, 'age1other')).rejects.toMatchObject({ code: 'conflict' })
      expect(await give(jobId, 'age1job')).toMatchObject({ files, unlockedBy: 'key:ops' })
      await expect(give(jobId, 'age1job')).rejects.toMatchObject({ code: 'job_state' })
      expect(await ask('age1job')).toMatchObject({ files, unlockedBy: 'key:ops' })
    })

    test('is too late after the time that the job waits, and no asking makes that longer', async () => {
      const { jobId, ask } = await restoring()
      await ask('age1job')
      await clock.advance(30_000)
      await ask('age1job')
      await clock.advance(30_000)
      await expect(give(jobId, 'age1job')).rejects.toMatchObject({ code: 'unlock_expired' })
      await expect(requireWaiting(under.catalog.db, jobId, now())).rejects.toMatchObject({ code: 'unlock_expired' })
    })

    test('holds for a further attempt with the same key; another key needs another unlock', async () => {
      const { host, claimed, jobId, ask } = await restoring()
      await ask('age1job')
      await give(jobId, 'age1job')
      const again = async (claim_: ClaimedJob) => {
        const error = { code: 'tool_failed', message: 'no' }
        await finishAttempt(under.catalog.db, ref(host, claim_), { outcome: 'failed', error, retryable: true }, now())
        await clock.advance(3_600_000)
        const next = only(await claim(host))
        await recordAccepted(under.catalog.db, ref(host, next), now(), later(60_000))
        return next
      }
      const second = await again(claimed)
      expect(await ask('age1job', 2)).toMatchObject({ attempt: 2, files, unlockedBy: 'key:ops' })
      await again(second)
      expect(await ask('age1new', 3)).toMatchObject({ attempt: 3, recipient: 'age1new', files: null, unlockedAt: null })
      await expect(give(jobId, 'age1job')).rejects.toMatchObject({ code: 'conflict' })
    })

    test('is forgotten when the job is over, but who unlocked it is not; a cancelled job takes none', async () => {
      const { host, claimed, jobId, ask } = await restoring()
      await ask('age1job')
      await give(jobId, 'age1job')
      await finishAttempt(under.catalog.db, ref(host, claimed), { outcome: 'succeeded' }, now())
      expect(await unlockOf(under.catalog.db, jobId)).toMatchObject({ files: null, unlockedBy: 'key:ops' })
      const other = await restoring()
      await other.ask('age1job')
      await requestCancel(under.catalog.db, other.jobId, 'no longer', now())
      await expect(give(other.jobId, 'age1job')).rejects.toMatchObject({ code: 'job_state' })
    })
  })
})
