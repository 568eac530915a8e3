import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { closure, getBackup } from './backups.ts'
import { takeOverCommits } from './claim-jobs.ts'
import { connectHost } from './fleet-fixture.ts'
import { listEvents } from './job-events.ts'
import { confirmEnd, finishAttempt, forceEnd, recordAccepted, recordLog, recordProgress, renewLeases } from './job-reports.ts'
import { cancelsFor, createJob, getJob, listJobs, type NewJob, requestCancel, requireCurrentAttempt } from './jobs.ts'
import { jobFixture } from './jobs-fixture.ts'
import { insertOccurrence, listOccurrences } from './occurrences.ts'
import { putPolicy } from './policies.ts'
import { pruneHistory } from './prune.ts'
import { tombstone } from './removal.ts'

const catalogs = await catalogsUnderTest()

describe.each(catalogs)('jobs, $kind', ({ open }) => {
  let under: TestCatalog
  const clock = new FakeClock()
  const now = () => clock.now()
  const later = (ms: number) => new Date(clock.now().getTime() + ms)
  beforeAll(async () => {
    under = await open()
  })
  afterAll(() => under.dispose())

  const fixture = jobFixture(() => under.catalog.db, clock)
  const { newHost, backupJob, claim, expire, ref, only, backUp, commit } = fixture

  test('a job runs once: claimed by one, dispatched with the epoch of the stream, reported by it alone', async () => {
    const { db } = under.catalog
    const host = await newHost()
    const job = await createJob(db, backupJob(host), now())
    const [a, b] = await Promise.all([claim(host), claim(host)])
    const claimed = only([...a, ...b])
    expect(claimed).toMatchObject({ epoch: host.epoch, job: { id: job.id, state: 'dispatched', attempt: 1 } })
    const of = ref(host, claimed)
    const stranger = await newHost()
    await expect(
      recordAccepted(db, { ...of, by: { agentId: stranger.agentId, epoch: 1 } }, now(), later(1)),
    ).rejects.toMatchObject({
      code: 'not_found',
    })
    expect(await recordAccepted(db, of, now(), later(60_000))).toMatchObject({ state: 'running' })
    expect(await recordAccepted(db, of, now(), later(60_000))).toMatchObject({ state: 'running' })
    expect(await recordProgress(db, of, { phase: 'read', read_bytes: 5n })).toBe(true)
    expect((await getJob(db, job.id)).progress).toEqual({ phase: 'read', read_bytes: 5 })
    await finishAttempt(db, of, { outcome: 'failed', error: { code: 'tool_failed', message: 'no' }, retryable: false }, now())
    const events = await listEvents(db, job.id)
    expect(events.map((event) => event.data.state)).toEqual(['queued', 'dispatched', 'running', 'failed'])
    expect(await getBackup(db, claimed.job.backupId ?? '')).toMatchObject({ status: 'failed' })
  })

  test('writes by older epochs are refused', async () => {
    const { db } = under.catalog
    const host = await newHost()
    await createJob(db, backupJob(host), now())
    const claimed = only(await claim(host))
    const old = ref(host, claimed)
    await connectHost(db, host, now())
    await expect(recordAccepted(db, old, now(), later(1))).rejects.toMatchObject({ code: 'session_superseded' })
    expect(await recordProgress(db, old, { phase: 'read' })).toBe(false)
    await expect(recordLog(db, old, { number: 1, level: 'info', message: '', clockMs: 0 }, now())).rejects.toMatchObject({
      code: 'attempt_fenced',
    })
    expect(await recordAccepted(db, ref(host, claimed), now(), later(1))).toMatchObject({ state: 'running' })
  })

  test('an instance claims jobs only for the agents whose stream it holds', async () => {
    const { db } = under.catalog
    const host = await newHost()
    await createJob(db, backupJob(host), now())
    expect(await claim(host, { instanceId: 'cp2' })).toEqual([])
    await connectHost(db, host, now(), 'cp2')
    expect(await claim(host, { instanceId: 'cp1' })).toEqual([])
    expect(await claim(host, { instanceId: 'cp2' })).toHaveLength(1)
  })

  test('limits hold on parallel jobs per agent and per policy', async () => {
    const { db } = under.catalog
    const host = await newHost()
    const discover = () =>
      createJob(db, { ...backupJob(host, { policy: 'p' }), sourceId: null, spec: { kind: 'discover' } }, now())
    for (let i = 0; i < 4; i++) await discover()
    expect(await claim(host, { perAgent: 1 })).toHaveLength(1)
    expect(await claim(host, { perAgent: 1 })).toHaveLength(0)
    await putPolicy(db, 'p', { targets: ['primary'], limits: { parallel_jobs: 2 } }, now())
    expect(await claim(host)).toHaveLength(1)
    expect(await claim(host)).toHaveLength(0)
    await putPolicy(db, 'p', { targets: ['primary'] }, now())
    expect(await claim(host)).toHaveLength(2)
  })

  test('two runs of one source never overlap, nor two restores into one place', async () => {
    const { db } = under.catalog
    const host = await newHost()
    await createJob(db, backupJob(host), now())
    await expect(createJob(db, backupJob(host), now())).rejects.toMatchObject({ code: 'overlap' })
    const other = await newHost()
    const { job } = await backUp(other)
    const restore: NewJob = {
      ...backupJob(other),
      spec: { kind: 'restore', backup_id: job.backupId ?? '', via_source: 'app', target_name: 'copy' },
      place: `${other.host}/copy`,
    }
    await createJob(db, restore, now())
    await expect(createJob(db, restore, now())).rejects.toMatchObject({ code: 'overlap' })
    await createJob(db, { ...restore, place: `${other.host}/copy2` }, now())
  })

  test('a fenced attempt can never commit', async () => {
    const { db } = under.catalog
    const host = await newHost()
    await createJob(db, backupJob(host), now())
    const first = only(await claim(host))
    await recordAccepted(db, ref(host, first), now(), later(60_000))
    await clock.advance(61_000)
    expect(only(await expire(host))).toMatchObject({ id: first.job.id, state: 'queued', errorCode: 'job_lost' })
    await expect(commit(host, first)).rejects.toMatchObject({ code: 'attempt_fenced' })
    await clock.advance(30_000)
    const second = only(await claim(host))
    expect(second.job).toMatchObject({ attempt: 2, backupId: first.job.backupId })
    await recordAccepted(db, ref(host, second), now(), later(60_000))
    await expect(commit(host, first)).rejects.toMatchObject({ code: 'attempt_fenced' })
    const by = { agentId: host.agentId, epoch: null }
    await expect(requireCurrentAttempt(db, by, first.job.id, 1)).rejects.toMatchObject({ code: 'attempt_fenced' })
    expect(await requireCurrentAttempt(db, by, first.job.id, 2)).toMatchObject({ spec: { kind: 'backup' } })
    await commit(host, second)
  })

  test('every step of a commit can be repeated after a crash, with the same manifest', async () => {
    const { db } = under.catalog
    const host = await newHost()
    await backUp(host)
    await createJob(db, backupJob(host), now())
    const claimed = only(await claim(host))
    await recordAccepted(db, ref(host, claimed), now(), later(60_000))
    const one = await commit(host, claimed, { manifest: 'one' })
    const two = await commit(host, claimed, { manifest: 'two' })
    expect(two).toMatchObject({ repeated: true, manifestSha256: one.manifestSha256 })
    expect(two.manifestSha256).toEqual(createHash('sha256').update(one.manifest).digest())
    expect(JSON.parse(one.manifest.toString())[1]).toBe(2)
    await clock.advance(61_000)
    // not lost with its agent: another control plane goes on
    expect(await expire(host)).toEqual([])
    expect((await takeOverCommits(db, now(), later(60_000))).map((job) => job.id)).toContain(claimed.job.id)
    expect(await takeOverCommits(db, now(), later(60_000))).toEqual([])
  })

  test('an incremental leans on the last good backup and all that it leans on, a differential on the last full only', async () => {
    const { db } = under.catalog
    const host = await newHost()
    const full = await backUp(host)
    expect(full.dispatch).toMatchObject({ type: 'full', reason: 'no_good_backup', base: null, expectedBytes: 0 })
    const first = await backUp(host)
    expect(first.dispatch).toMatchObject({
      type: 'incremental',
      base: { id: full.job.backupId },
      leanedOn: [],
      expectedBytes: 100,
    })
    const second = await backUp(host)
    expect(second.dispatch).toMatchObject({ base: { id: first.job.backupId }, leanedOn: [{ id: full.job.backupId }] })
    expect((await closure(db, second.job.backupId ?? '')).map((base) => base.id)).toEqual([full.job.backupId, first.job.backupId])
    const differential = await backUp(host, { spec: { kind: 'backup', type: 'differential', target: 'primary' } })
    expect(differential.dispatch).toMatchObject({ type: 'differential', base: { id: full.job.backupId }, leanedOn: [] })
    const elsewhere = await backUp(host, { spec: { kind: 'backup', type: 'incremental', target: 'other' } })
    expect(elsewhere.dispatch).toMatchObject({ type: 'full', reason: 'base_on_other_target' })
  })

  test('a backup that something leans on, or that a job reads, cannot be removed', async () => {
    const { db } = under.catalog
    const host = await newHost()
    const full = (await backUp(host)).job.backupId ?? ''
    await createJob(db, backupJob(host), now())
    const claimed = only(await claim(host))
    await expect(tombstone(db, full, 'test', now())).rejects.toMatchObject({ code: 'backup_in_use' })
    await finishAttempt(
      db,
      ref(host, claimed),
      { outcome: 'failed', error: { code: 'internal', message: '' }, retryable: false },
      now(),
    )
    const verify = await createJob(db, { ...backupJob(host), spec: { kind: 'verify', backup_id: full } }, now())
    await expect(tombstone(db, full, 'test', now())).rejects.toMatchObject({ code: 'backup_in_use' })
    await requestCancel(db, verify.id, 'test', now())
    await tombstone(db, full, 'test', now())
    await expect(createJob(db, { ...backupJob(host), spec: { kind: 'verify', backup_id: full } }, now())).rejects.toMatchObject({
      code: 'backup_invalid',
    })
    expect((await backUp(host)).dispatch).toMatchObject({ type: 'full', reason: 'no_good_backup' })
  })

  test('a manifest may lean only on what the command named', async () => {
    const { db } = under.catalog
    const host = await newHost()
    const full = (await backUp(host)).job.backupId ?? ''
    await createJob(db, backupJob(host, { spec: { kind: 'backup', type: 'full', target: 'primary' } }), now())
    const claimed = only(await claim(host))
    await recordAccepted(db, ref(host, claimed), now(), later(60_000))
    await expect(commit(host, claimed, { leansOn: [full] })).rejects.toMatchObject({ code: 'base_unusable' })
  })

  test('a lost restore is not started again until its agent confirms the end, or an operator forces it', async () => {
    const { db } = under.catalog
    const host = await newHost()
    const backup = (await backUp(host)).job.backupId ?? ''
    const restore: NewJob = {
      ...backupJob(host),
      spec: { kind: 'restore', backup_id: backup, via_source: 'app' },
      place: `${host.host}/app`,
    }
    const job = await createJob(db, restore, now())
    const first = only(await claim(host))
    expect(first.reads).toMatchObject({ backup: { id: backup }, leanedOn: [] })
    await recordAccepted(db, ref(host, first), now(), later(60_000))
    await clock.advance(61_000)
    expect(only(await expire(host))).toMatchObject({ state: 'lost', finishedAt: null })
    await requestCancelIsNotEnough()
    await confirmEnd(db, ref(host, first), now())
    expect(await getJob(db, job.id)).toMatchObject({ state: 'queued' })
    await clock.advance(30_000)
    const second = only(await claim(host))
    await recordAccepted(db, ref(host, second), now(), later(60_000))
    await clock.advance(61_000)
    await expire(host)
    // the word of an earlier attempt's end says nothing of this one
    await confirmEnd(db, ref(host, first), now())
    expect(await getJob(db, job.id)).toMatchObject({ state: 'lost', attempt: 2 })
    expect(await forceEnd(db, job.id, now())).toMatchObject({ state: 'queued' })

    async function requestCancelIsNotEnough() {
      await clock.advance(24 * 3600_000)
      expect(await expire(host)).toEqual([])
      expect(await claim(host)).toEqual([])
      await expect(createJob(db, restore, now())).rejects.toMatchObject({ code: 'overlap' })
    }
  })

  test('a lost restore whose agent then says that it succeeded has succeeded, and is not started again', async () => {
    const { db } = under.catalog
    const host = await newHost()
    const spec = { kind: 'restore', backup_id: (await backUp(host)).job.backupId ?? '', via_source: 'app' } as const
    const job = await createJob(db, { ...backupJob(host), spec, place: `${host.host}/app` }, now())
    const first = only(await claim(host))
    await recordAccepted(db, ref(host, first), now(), later(60_000))
    await clock.advance(61_000)
    expect(only(await expire(host))).toMatchObject({ state: 'lost' })
    expect(await finishAttempt(db, ref(host, first), { outcome: 'succeeded' }, now())).toMatchObject({ state: 'succeeded' })
    await confirmEnd(db, ref(host, first), now())
    expect(await getJob(db, job.id)).toMatchObject({ state: 'succeeded', errorCode: null })
    await clock.advance(30_000)
    expect(await claim(host)).toEqual([])
  })

  test('a running attempt keeps its lease while its stream is heard, and ends at its deadline all the same', async () => {
    const { db } = under.catalog
    const host = await newHost()
    await createJob(db, backupJob(host, { maxAttempts: 1, deadlineSeconds: 600 }), now())
    const claimed = only(await claim(host))
    const session = { agentId: host.agentId, epoch: host.epoch }
    // not accepted: a command that was lost on its way is not kept alive
    expect(await renewLeases(db, session, later(60_000))).toBe(0)
    await recordAccepted(db, ref(host, claimed), now(), later(60_000))
    expect(await renewLeases(db, { ...session, epoch: host.epoch - 1 }, later(60_000))).toBe(0)
    expect(await renewLeases(db, session, later(60_000), [])).toBe(0)
    for (let i = 0; i < 13; i++) {
      expect(await renewLeases(db, session, later(60_000))).toBe(1)
      await clock.advance(50_000)
      if (i < 12) expect(await expire(host)).toEqual([])
      else break
    }
    await clock.advance(11_000)
    await renewLeases(db, session, later(60_000))
    expect(only(await expire(host))).toMatchObject({ state: 'failed', errorCode: 'deadline_exceeded' })
  })

  test('an instance takes cancels only for the agents whose stream it holds', async () => {
    const { db } = under.catalog
    const [host, other] = [await newHost(), await newHost()]
    for (const one of [host, other]) {
      await createJob(db, backupJob(one), now())
      const { job } = only(await claim(one))
      await requestCancel(db, job.id, 'enough', now())
    }
    const taken = await cancelsFor(db, [host.agentId])
    expect(taken.map((job) => job.agentId)).toEqual([host.agentId])
    expect(await cancelsFor(db, [])).toEqual([])
  })

  test('a cancel ends a queued job at once and an active one when its agent has stopped it', async () => {
    const { db } = under.catalog
    const host = await newHost()
    const queued = await createJob(db, backupJob(host), now())
    expect(await requestCancel(db, queued.id, 'no', now())).toMatchObject({ state: 'cancelled' })
    await createJob(db, backupJob(host), now())
    const claimed = only(await claim(host))
    await recordAccepted(db, ref(host, claimed), now(), later(60_000))
    expect(await requestCancel(db, claimed.job.id, 'enough', now())).toMatchObject({ state: 'running', cancelReason: 'enough' })
    const ended = await finishAttempt(db, ref(host, claimed), { outcome: 'cancelled' }, now())
    expect(ended).toMatchObject({ state: 'cancelled' })
    expect(await getBackup(db, claimed.job.backupId ?? '')).toMatchObject({ status: 'failed' })
    await expect(finishAttempt(db, ref(host, claimed), { outcome: 'succeeded' }, now())).rejects.toMatchObject({
      code: 'attempt_fenced',
    })
  })

  test('a repeated log line is dropped, and hostile text is kept readable', async () => {
    const { db } = under.catalog
    const host = await newHost()
    await createJob(db, backupJob(host), now())
    const claimed = only(await claim(host))
    const line = { number: 1, level: 'info', message: 'a\0b\ud800', clockMs: 1 }
    await recordLog(db, ref(host, claimed), line, now())
    await recordLog(db, ref(host, claimed), line, now())
    const logs = (await listEvents(db, claimed.job.id)).filter((event) => event.type === 'log')
    expect(logs.map((event) => event.data.message)).toEqual(['a\uFFFDb\uFFFD'])
  })

  test('lists go on from a cursor without missing or repeating a job', async () => {
    const { db } = under.catalog
    const host = await newHost()
    const made: string[] = []
    for (let i = 0; i < 5; i++) {
      // pairs within one millisecond
      if (i % 2 === 0) await clock.advance(1)
      made.push((await createJob(db, { ...backupJob(host), sourceId: null, spec: { kind: 'discover' } }, now())).id)
    }
    const seen: string[] = []
    let cursor: string | null = null
    do {
      const page: Awaited<ReturnType<typeof listJobs>> = await listJobs(db, { agentId: host.agentId, limit: 2, cursor })
      seen.push(...page.items.map((job) => job.id))
      cursor = page.next_cursor
    } while (cursor)
    expect(seen.toSorted()).toEqual(made.toSorted())
    await expect(listJobs(db, { cursor: 'nonsense' })).rejects.toMatchObject({ code: 'invalid_argument' })
  })

  test('a base is either leaned on or removed, whichever came first, never both', async () => {
    const { db } = under.catalog
    for (let round = 0; round < 12; round++) {
      const host = await newHost()
      const full = (await backUp(host)).job.backupId ?? ''
      await createJob(db, backupJob(host), now())
      const [claimed, removed] = await Promise.all([
        claim(host),
        tombstone(db, full, 'test', now()).catch((error: unknown) => {
          expect(error).toMatchObject({ code: 'backup_in_use' })
          return false
        }),
      ])
      expect(claimed[0]?.dispatch?.base?.id).toBe(removed ? undefined : full)
    }
  })

  test('limits hold however many claim at once', async () => {
    const { db } = under.catalog
    const host = await newHost()
    for (let i = 0; i < 12; i++) await createJob(db, { ...backupJob(host), sourceId: null, spec: { kind: 'discover' } }, now())
    const claims = await Promise.all([claim(host, { perAgent: 5 }), claim(host, { perAgent: 5 }), claim(host, { perAgent: 5 })])
    expect(claims.flat()).toHaveLength(5)
    expect(new Set(claims.flat().map((one) => one.job.id)).size).toBe(5)
  })

  test('history that nobody looks at goes, but not the word on what is decided, nor of what is unfinished', async () => {
    const { db } = under.catalog
    const host = await newHost()
    const done = await createJob(db, { ...backupJob(host), sourceId: null, spec: { kind: 'discover' } }, now())
    await requestCancel(db, done.id, 'test', now())
    const waiting = await createJob(db, { ...backupJob(host), sourceId: null, spec: { kind: 'discover' } }, now())
    const dueAt = [later(0), later(1000)]
    const occurrence = { policy: host.host, sourceId: host.source.id, type: 'full', outcome: 'missed' } as const
    for (const due of dueAt) await insertOccurrence(db, { ...occurrence, dueAt: due }, now())
    await pruneHistory(db, later(500 * 86_400_000))
    expect(await listEvents(db, done.id)).toEqual([])
    expect(await getJob(db, done.id)).toMatchObject({ state: 'cancelled' })
    expect(await listEvents(db, waiting.id)).toHaveLength(1)
    expect(await listOccurrences(db, host.host, host.source.id)).toMatchObject([{ dueAt: dueAt[1] }])
  })
})
