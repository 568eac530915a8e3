import { eq, sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { JobOutcome, JobResult } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import { createLogger } from '../../shared/log.ts'
import { objectKey } from '../../shared/manifest/layout.ts'
import type { VerifyDetail } from '../../shared/results.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { type BackupRef, getBackup } from '../catalog/backups.ts'
import type { TestHost } from '../catalog/fleet-fixture.ts'
import { recordAccepted } from '../catalog/job-reports.ts'
import { createJob, getJob } from '../catalog/jobs.ts'
import { jobFixture } from '../catalog/jobs-fixture.ts'
import { damagedPacks, recordAddress } from '../catalog/ledger.ts'
import { backups } from '../catalog/schema/schema.ts'
import { listVerifications } from '../catalog/verifications.ts'
import { verifiedPacks } from '../catalog/verified-packs.ts'
import type { Session } from '../fleet/live-session.ts'
import type { ControlPlane } from './control-plane.ts'
import { receiveReport } from './receive-report.ts'

const PACK = 'packs/1-0123456789abcdef'

describe.each(await catalogsUnderTest())("an agent's word of what it verified, $kind", ({ open }) => {
  let under: TestCatalog
  const clock = new FakeClock()
  const now = () => clock.now()
  const later = (ms: number) => new Date(clock.now().getTime() + ms)
  const { newHost, backupJob, claim, ref, only, backUp } = jobFixture(() => under.catalog.db, clock)
  beforeAll(async () => {
    under = await open()
  })
  afterAll(() => under.dispose())

  const cp = () =>
    ({
      catalog: under.catalog,
      clock,
      log: createLogger({ level: 'silent' }),
      settings: { leaseSeconds: 60 },
      wake: () => undefined,
    }) as unknown as ControlPlane

  /** A good backup with one pack in the ledger. */
  async function good(host: TestHost): Promise<BackupRef> {
    const backup = (await backUp(host)).dispatch?.backup as BackupRef
    const object = { name: PACK, size: 4, sha256: Buffer.alloc(32) }
    await recordAddress(under.catalog.db, { id: backup.id, attempt: 1 }, [object], later(900_000))
    return backup
  }

  /** A verify job of that backup at work on that host; gives what the host's agent would send at its end. */
  async function verifying(host: TestHost, backup: BackupRef) {
    const { db } = under.catalog
    await createJob(db, { ...backupJob(host), spec: { kind: 'verify', backup_id: backup.id }, sourceId: null }, now())
    const claimed = only(await claim(host))
    await recordAccepted(db, ref(host, claimed), now(), later(60_000))
    const from = { agentId: host.agentId, epoch: host.epoch, send: async () => undefined } as unknown as Session
    const report = (detail: Partial<VerifyDetail>) => {
      const detailJson = JSON.stringify({ valid: true, bytes_checked: 1, objects_checked: 1, errors: [], ...detail })
      const { id: jobId, attempt } = claimed.job
      const value = JobResult.fromPartial({ jobId, attempt, outcome: JobOutcome.SUCCEEDED, detailJson })
      return receiveReport(cp(), from, { $case: 'jobResult', value })
    }
    return { job: claimed.job, report }
  }

  const damaged = (of: BackupRef, name = PACK) => ({
    code: 'object_damaged',
    object: objectKey(of, name),
    message: 'it does not open',
  })

  test('damage counts only for the backup of the job and what that leans on, never for another', async () => {
    const { db } = under.catalog
    const host = await newHost()
    const victim = await good(await newHost())
    const [full, next] = [await good(host), await good(host)]
    const unrelated = await good(host)
    const { report } = await verifying(host, next)
    const forged = { ...victim, id: next.id }
    await report({
      valid: false,
      errors: [damaged(victim), damaged(unrelated), damaged(full), damaged(next), damaged(forged, 'packs/../x')],
    })
    expect(await damagedPacks(db, [victim.id])).toEqual([])
    expect(await damagedPacks(db, [unrelated.id])).toEqual([])
    expect(await damagedPacks(db, [full.id, next.id])).toEqual([objectKey(full, PACK), objectKey(next, PACK)])
    expect(await getBackup(db, victim.id)).toMatchObject({ status: 'good', valid: true })
    expect(await getBackup(db, unrelated.id)).toMatchObject({ status: 'good', valid: true })
    expect(await getBackup(db, next.id)).toMatchObject({ valid: false })
  })

  test('an agent that calls well what it names errors of is not believed', async () => {
    const host = await newHost()
    const backup = await good(await newHost())
    const { report } = await verifying(host, backup)
    await report({ valid: true, errors: [damaged(backup)] })
    expect(await getBackup(under.catalog.db, backup.id)).toMatchObject({ valid: false, verifiedAt: null })
  })

  describe('of each pack', () => {
    const OTHER = 'packs/1-fedcba9876543210'
    const verified = async (backup: BackupRef, judge: string) =>
      (await verifiedPacks(under.catalog.db, [backup.id], judge, now()))
        .flatMap(({ packs }) => packs.map(({ name }) => name))
        .sort()
    const good = (backup: BackupRef, ...bits: number[]) => ({
      good: [{ backup_id: backup.id, objects: Buffer.of(bits.reduce((sum, bit) => sum | (1 << bit), 0)).toString('base64') }],
    })

    /** With two packs, of which the manifest names one first and one third. */
    async function withPacks(host: TestHost): Promise<BackupRef> {
      const backup = (await backUp(host)).dispatch?.backup as BackupRef
      const manifest = { facts: { objects: [PACK, 'contents/1', OTHER].map((name) => ({ name })) } }
      await under.catalog.db
        .update(backups)
        .set({ manifest: Buffer.from(JSON.stringify(manifest)) })
        .where(eq(backups.id, backup.id))
      const objects = [PACK, OTHER, 'contents/1'].map((name) => ({ name, size: 4, sha256: Buffer.alloc(32) }))
      await recordAddress(under.catalog.db, { id: backup.id, attempt: 1 }, objects, later(900_000))
      return backup
    }

    test('what was read whole is remembered, by the bits of its manifest, and how long ago that was', async () => {
      const [maker, judge] = [await newHost(), await newHost()]
      const backup = await withPacks(maker)
      await (await verifying(judge, backup)).report(good(backup, 1, 2, 7))
      expect(await verified(backup, judge.host)).toEqual([OTHER])
      await clock.advance(5000)
      const [known] = await verifiedPacks(under.catalog.db, [backup.id], judge.host, now())
      expect(known?.packs[0]?.secondsAgo).toBe(5)
    })

    test('only of backups that the agent was told to read', async () => {
      const [maker, judge] = [await newHost(), await newHost()]
      const [told, unrelated] = [await withPacks(maker), await withPacks(judge)]
      await (await verifying(judge, told)).report(good(unrelated, 0))
      expect(await verified(unrelated, maker.host)).toEqual([])
    })

    test('what a host says of its own backup saves itself from reading it again, nobody else, and takes no other’s place', async () => {
      const [maker, judge] = [await newHost(), await newHost()]
      const backup = await withPacks(maker)
      await (await verifying(judge, backup)).report(good(backup, 0))
      await (await verifying(maker, backup)).report(good(backup, 0, 2))
      expect(await verified(backup, judge.host)).toEqual([PACK])
      expect(await verified(backup, maker.host)).toEqual([OTHER, PACK].sort())
    })

    test('damage is never verified, and takes back that it was', async () => {
      const [maker, judge] = [await newHost(), await newHost()]
      const backup = await withPacks(maker)
      await (await verifying(judge, backup)).report({ ...good(backup, 0, 2), valid: false, errors: [damaged(backup, OTHER)] })
      expect(await verified(backup, judge.host)).toEqual([PACK])
      await (await verifying(judge, backup)).report({ valid: false, errors: [damaged(backup)] })
      expect(await verified(backup, judge.host)).toEqual([])
    })

    test('a verification that left packs out, or was only a plan, does not make a backup verified', async () => {
      const [maker, judge] = [await newHost(), await newHost()]
      const backup = await withPacks(maker)
      const packs = { needed: 2, needed_bytes: 8, chosen: 1, chosen_bytes: 4 }
      await (await verifying(judge, backup)).report({ packs, ...good(backup, 0) })
      await (await verifying(judge, backup)).report({ plan_only: true, packs: { ...packs, chosen: 2 } })
      expect(await getBackup(under.catalog.db, backup.id)).toMatchObject({ verifiedAt: null })
      await (await verifying(judge, backup)).report({ packs: { ...packs, chosen: 2 }, ...good(backup, 0, 2) })
      expect(await getBackup(under.catalog.db, backup.id)).toMatchObject({ valid: true, verifiedBy: judge.host })
    })
  })

  test('a verification ends together with its finding: what could not be written is told again, and then counts', async () => {
    const { db } = under.catalog
    const host = await newHost()
    const backup = await good(host)
    const { job, report } = await verifying(host, backup)
    const found = { valid: false, errors: [damaged(backup)] }
    await db.execute(sql`alter table verifications add constraint full_disk check (false) not valid`)
    await expect(report(found)).rejects.toThrow()
    await db.execute(sql`alter table verifications drop constraint full_disk`)
    expect((await getJob(db, job.id)).state).toBe('running')
    await report(found)
    expect((await getJob(db, job.id)).state).toBe('succeeded')
    expect(await listVerifications(db, backup.id)).toMatchObject([{ kind: 'verify', valid: false, by: host.host }])
    expect(await getBackup(db, backup.id)).toMatchObject({ valid: false })
  })
})
