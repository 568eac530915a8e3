import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { AgentIdentity } from '../../agent/link/identity.ts'
import { openForRecovery } from '../../agent/recover/open.ts'
import { type BackupRow, backupsOfSource, getBackup } from '../../control-plane/catalog/backups.ts'
import { type ClaimedJob, claimJobs } from '../../control-plane/catalog/claim-jobs.ts'
import { connectHost, type TestHost } from '../../control-plane/catalog/fleet-fixture.ts'
import { recordAccepted } from '../../control-plane/catalog/job-reports.ts'
import { getJob } from '../../control-plane/catalog/jobs.ts'
import { recordAddress } from '../../control-plane/catalog/ledger.ts'
import { putPolicy } from '../../control-plane/catalog/policies.ts'
import { syncSources } from '../../control-plane/catalog/sources.ts'
import { applyRetention } from '../../control-plane/usecases/apply-retention.ts'
import { commitBackup } from '../../control-plane/usecases/commit-backup.ts'
import type { ControlPlane } from '../../control-plane/usecases/control-plane.ts'
import { destroyBackups } from '../../control-plane/usecases/destroy-backups.ts'
import { finishBackup } from '../../control-plane/usecases/finish-backup.ts'
import { runDueSchedules } from '../../control-plane/usecases/run-schedules.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import { objectKey } from '../../shared/manifest/layout.ts'
import type { Facts } from '../../shared/manifest/manifest.ts'
import { signFacts } from '../../shared/manifest/sign.ts'
import { keepKnown, openKnown } from '../../shared/repository/known.ts'
import type { WriterTotals } from '../../shared/repository/repository.ts'
import { collect, pieces, seededBytes } from '../../shared/repository/testing/content.ts'
import { openWriter } from '../../shared/repository/writer.ts'
import type { BackupDetail } from '../../shared/results.ts'
import { Secret } from '../../shared/secret.ts'
import { openLocal } from '../../shared/storage/local/target.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { recordingLog, TestFleet } from '../harness/fleet.ts'
import { type ThrowAwayFolder, throwAwayFolder } from '../harness/folders.ts'

/**
 * A year of daily incrementals as schedule, catalog, writer, validation and retention make it together, on a local target, by a
 * clock that is moved. 1 % of the source changes each day. Only the wire between control plane and agent is left out.
 */

const DAY = 86_400_000
const PAGE = 1024
const PAGES = 500
const KEPT_DAYS = 14
const gearKey = new Secret(randomBytes(32))
const signal = new AbortController().signal
const clock = new FakeClock(new Date())
const { log } = recordingLog()
let fleet: TestFleet
let work: ThrowAwayFolder
let target: StorageTarget
let host: TestHost
let identity: AgentIdentity
let cp: ControlPlane
const bytes = seededBytes(1, PAGES * PAGE)

beforeAll(async () => {
  fleet = await TestFleet.start(clock)
  work = await throwAwayFolder()
  target = await openLocal(path.join(work.path, 'store'), { name: 'primary', clock, create: true })
  host = await enrolledHost()
  cp = {
    instanceId: host.instanceId,
    catalog: fleet.catalog,
    clock,
    log,
    fleet: fleet.fleet,
    settings: {
      ...{ defaultTarget: 'primary', parallelJobsPerAgent: 2, parallelJobs: 10 },
      ...{ leaseSeconds: 60, jobDeadlineSeconds: 3600, unlockSeconds: 60, maxAttempts: 3 },
    },
    target: async () => target,
    audit: async () => undefined,
    wake: () => undefined,
    finished: () => undefined,
  }
  const policy = { schedule: { incremental: '0 2 * * *' }, targets: ['primary'], retention: { duration: `${KEPT_DAYS}d` } }
  await putPolicy(fleet.catalog.db, 'daily', policy as never, clock.now())
})
afterAll(async () => {
  await target?.close()
  await fleet?.dispose()
  await work?.remove()
})

it('a year of daily incrementals leans on fewer than 30 backups and frees old ones; a restore of the last day is right', async () => {
  const most = { leaned: 0, held: 0, stored: 0 }
  let first = ''
  let last = ''
  for (let day = 0; day < 365; day++) {
    await clock.advance(DAY)
    if (day > 0) changeOnePercent(day)
    const backup = await backUpDue()
    expect(backup).toMatchObject({ status: 'good', valid: true, type: day === 0 ? 'full' : 'incremental' })
    if (day === 0) first = backup.id
    last = backup.id
    most.leaned = Math.max(most.leaned, backup.leansOn.length)
    if (day > 0) most.stored = Math.max(most.stored, backup.storedBytes ?? 0)
    await applyRetention(cp, 'control-plane', clock.now())
    await destroyBackups(cp, clock.now(), 0)
    most.held = Math.max(most.held, (await foldersHeld()).length)
  }
  expect(most.leaned).toBeGreaterThan(10)
  expect(most.leaned).toBeLessThan(30)
  // those that are kept, and what the oldest of them leans on
  expect(most.held).toBeLessThan(KEPT_DAYS + 2 + 30)
  // what changed, the share that is sent again, and what a backup of nothing would take
  expect(most.stored).toBeLessThan(bytes.length * (0.01 + 0.05) + 40_000)
  expect(await foldersHeld()).not.toContain(first)
  expect(await getBackup(fleet.catalog.db, first)).toMatchObject({ removedAt: expect.any(Date) })

  const credentials = { identities: [fleet.recovery], verifyingKey: fleet.fleet.verifyingKeyText }
  const { reader, origin } = await openForRecovery(target, last, credentials, { signal, scratch: tmpdir() })
  expect(origin).toBe('verified')
  expect((await collect(reader.openStream('db'))).equals(bytes)).toBe(true)
  await reader.close()
}, 1_200_000)

/** An agent with an identity of this fleet, and a stream that is taken for open all the year. */
async function enrolledHost(): Promise<TestHost> {
  const { db } = fleet.catalog
  const plane = await fleet.plane()
  identity = (await fleet.enrolled(plane, 'db1')).identity
  // its heartbeats of a whole year would be waited through
  await plane.servers.close()
  const { agentId, name } = identity
  const [source] = await syncSources(db, agentId, [{ name: 'app', engine: 'fake', labels: {}, facts: {} }], clock.now())
  if (!source) throw new Error('the agent has no source')
  const made: TestHost = { agentId, host: name, source, instanceId: plane.instanceId, epoch: 0 }
  await connectHost(db, made, clock.now())
  return made
}

function changeOnePercent(day: number): void {
  const draw = seededBytes(1000 + day, 5 * (PAGE + 4))
  for (let n = 0; n < 5; n++) {
    const from = n * (PAGE + 4)
    draw.copy(bytes, (draw.readUInt32LE(from) % PAGES) * PAGE, from + 4, from + 4 + PAGE)
  }
}

const foldersHeld = () => readdir(path.join(work.path, 'store', host.host, 'app'))

/** What the schedule says is due, dispatched, written, committed and validated. */
async function backUpDue() {
  const { db } = fleet.catalog
  expect(await runDueSchedules(cp, clock.now())).toBe(1)
  const [claimed] = await claimJobs(
    db,
    {
      instanceId: host.instanceId,
      agentIds: [host.agentId],
      limits: { perAgent: 2, fleet: 10 },
      recipients: { fleet: fleet.fleet.recipient, recovery: fleet.fleet.recoveryRecipients },
      leaseUntil: leaseEnd(),
    },
    clock.now(),
  )
  if (!claimed) throw new Error('nothing was dispatched')
  const of = { by: { agentId: host.agentId, epoch: host.epoch }, jobId: claimed.job.id, attempt: claimed.job.attempt }
  await recordAccepted(db, of, clock.now(), leaseEnd())
  const backup = await write(claimed)
  await finishBackup(cp, claimed.job, signal)
  const made = (await backupsOfSource(db, host.source.id)).find(({ id }) => id === backup.id)
  if (!made) throw new Error(`backup ${backup.id} is not in the catalog`)
  return made
}

const leaseEnd = () => new Date(clock.now().getTime() + 60_000)

/** The agent's part: with the real writer, from the base's list of known chunks to the commit. */
async function write({ job, dispatch }: ClaimedJob): Promise<Pick<BackupRow, 'id'>> {
  if (!dispatch) throw new Error(`job ${job.id} has no backup`)
  const { backup, base } = dispatch
  const knownFolder = path.join(work.path, 'known')
  const baseRef = base && { id: base.id, manifestSha256: base.manifestSha256 ?? Buffer.alloc(0) }
  const known = baseRef && (await openKnown(knownFolder, baseRef))
  expect(known === null).toBe(base === null)
  await using scratch = await throwAwayFolder()
  const writer = await openWriter({
    fleetId: fleet.fleet.id,
    backup,
    engine: 'fake',
    type: dispatch.type,
    attempt: job.attempt,
    dataKey: new Secret(randomBytes(32)),
    earlier: [],
    recipients: dispatch.recipients,
    agentRecipient: fleet.fleet.recipient,
    known,
    gearKey: known?.gearKey ?? gearKey,
    damagedPacks: dispatch.damagedPacks,
    resend: { backupIds: dispatch.resendBackupIds, permille: dispatch.resendPermille },
    objects: {
      put: async (name, body, sha256) => {
        const object = { name, size: body.length, sha256 }
        await recordAddress(fleet.catalog.db, { id: backup.id, attempt: job.attempt }, [object], clock.now())
        await target.put(objectKey(backup, name), Buffer.from(body))
      },
    },
    scratch: scratch.path,
    signal,
    onProgress: () => undefined,
  })
  try {
    await writer.stream({ name: 'db', chunking: { kind: 'fixed', bytes: PAGE } }, pieces(bytes))
    const facts = await writer.finish({ counts: { pages: PAGES }, facts: {} })
    const manifestSha256 = await commit(job, facts, writer.totals)
    await keepKnown(scratch.path, knownFolder, { id: backup.id, manifestSha256 })
  } finally {
    await writer.close()
    await known?.close()
  }
  return backup
}

/** Signed by the agent, checked against dispatch, ledger and store, signed by the fleet and written, as over the wire. */
async function commit(job: ClaimedJob['job'], facts: Facts, totals: WriterTotals): Promise<Buffer> {
  const signed = Buffer.from(JSON.stringify(signFacts(facts, identity)))
  const detail: BackupDetail = {
    dry_run: false,
    type: facts.type,
    read_bytes: totals.readBytes,
    stored_bytes: totals.storedBytes,
    skipped_bytes: totals.skippedBytes,
    resent_bytes: totals.resentBytes,
    chunks: totals.chunks,
    chunks_skipped: totals.chunksSkipped,
    objects: facts.objects.length,
  }
  const offer = { jobId: job.id, attempt: job.attempt, facts: signed, detailJson: JSON.stringify(detail) }
  const manifestSha256 = await commitBackup(cp, host.agentId, offer)
  // known from here on, whatever becomes of the agent
  expect((await getJob(fleet.catalog.db, job.id)).detail).toEqual(detail)
  return manifestSha256
}
