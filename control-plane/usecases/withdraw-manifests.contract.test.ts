import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { HoldfastError } from '../../shared/errors.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import { createLogger } from '../../shared/log.ts'
import { backupFolder, manifestKey, objectKey } from '../../shared/manifest/layout.ts'
import { openLocal } from '../../shared/storage/local/target.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { listAuditEntries } from '../catalog/audit.ts'
import type { BackupRef } from '../catalog/backups.ts'
import { manifestOf } from '../catalog/backups.ts'
import { beginValidation, expireLeases, finishAttempt, recordAccepted } from '../catalog/job-reports.ts'
import { createJob } from '../catalog/jobs.ts'
import { jobFixture } from '../catalog/jobs-fixture.ts'
import { recordAddress } from '../catalog/ledger.ts'
import { resumeCommit } from './commit-backup.ts'
import type { ControlPlane } from './control-plane.ts'
import { destroyBackups } from './destroy-backups.ts'
import { withdrawManifests } from './withdraw-manifests.ts'

const log = createLogger({ level: 'silent' })

describe.each(await catalogsUnderTest())('a backup that fails after its commit began, $kind', ({ open }) => {
  let under: TestCatalog
  let folder: string
  let target: StorageTarget
  const clock = new FakeClock()
  const now = () => clock.now()
  const later = (ms: number) => new Date(clock.now().getTime() + ms)
  const { newHost, backupJob, claim, ref, only, commit } = jobFixture(() => under.catalog.db, clock)

  beforeAll(async () => {
    under = await open()
    folder = await mkdtemp(path.join(tmpdir(), 'holdfast-withdraw-'))
    target = await openLocal(folder, { name: 'primary', clock, create: true })
  })
  afterAll(async () => {
    await under.dispose()
    await target.close()
    await rm(folder, { recursive: true, force: true })
  })

  const deps = (storage: StorageTarget = target) => ({ catalog: under.catalog, log, target: async () => storage })
  const cp = () => ({ ...deps(), clock }) as unknown as ControlPlane
  const stored = async (of: BackupRef) => {
    const names: string[] = []
    for await (const { key } of target.list(backupFolder(of))) names.push(key.slice(backupFolder(of).length))
    return names.sort()
  }
  const PACK = 'packs/1-0123456789abcdef'

  /** Its objects and its manifest are in the store; the agent's last address is good for fifteen minutes more. */
  async function committed() {
    const { db } = under.catalog
    const host = await newHost()
    await createJob(db, backupJob(host), now())
    const claimed = only(await claim(host))
    const of = ref(host, claimed)
    await recordAccepted(db, of, now(), later(60_000))
    const backup = claimed.dispatch?.backup as BackupRef
    const wanted = ['keys/1', PACK].map((name) => ({ name, size: name.length, sha256: Buffer.alloc(32) }))
    await recordAddress(db, { id: backup.id, attempt: 1 }, wanted, later(900_000))
    for (const { name } of wanted) await target.put(objectKey(backup, name), Buffer.from(name))
    const begun = await commit(host, claimed)
    await target.put(manifestKey(backup), begun.manifest)
    expect(await stored(backup)).toEqual(['keys/1', 'manifest.json', PACK])
    return { host, backup, claimed, of: { ...of, by: 'control-plane' as const } }
  }

  async function failed() {
    const made = await committed()
    await beginValidation(under.catalog.db, made.of, now(), later(60_000))
    const error = { code: 'backup_invalid', message: 'a pack is missing' }
    await finishAttempt(under.catalog.db, made.of, { outcome: 'failed', error, retryable: false }, now())
    return made
  }

  test('has its manifest and keys taken out of the store at once, and the rest when no address is open any more', async () => {
    const { backup } = await failed()
    expect(await withdrawManifests(deps(), now())).toEqual([])
    expect(await stored(backup)).toEqual([PACK])
    expect(await listAuditEntries(under.catalog.db, { subject: backup.id }, { limit: 10 })).toMatchObject([
      { action: 'backup.withdrawn', outcome: 'done' },
    ])
    expect(await destroyBackups(deps(), now(), 0)).not.toContain(backup.id)
    await clock.advance(970_000)
    expect(await destroyBackups(deps(), now(), 0)).toContain(backup.id)
    expect(await stored(backup)).toEqual([])
  })

  test('also when it was its deadline that ended it', async () => {
    const { backup, claimed } = await committed()
    await clock.advance(3_700_000)
    expect((await expireLeases(under.catalog.db, now())).map((job) => [job.id, job.state])).toContainEqual([
      claimed.job.id,
      'failed',
    ])
    expect(await withdrawManifests(deps(), now())).toEqual([])
    expect(await stored(backup)).toEqual([PACK])
  })

  test.each([1, 2])('a removal that dies before its object %i is done again by whoever comes next', async (at) => {
    const { backup } = await failed()
    let removals = 0
    const dying = onRemove(target, () => {
      removals += 1
      if (removals === at) throw new HoldfastError('target_unreachable', 'the store is away', { retry: true })
    })
    expect(await withdrawManifests(deps(dying), now())).toEqual([backup.id])
    expect(await stored(backup)).toContain('keys/1')
    expect(await withdrawManifests(deps(), now())).toEqual([])
    expect(await stored(backup)).toEqual([PACK])
    const seen: string[] = []
    expect(await withdrawManifests(deps(onRemove(target, (key) => seen.push(key))), now())).toEqual([])
    expect(seen).toEqual([])
  })

  test('a store that keeps what it was told to remove is not believed', async () => {
    const { backup } = await failed()
    const keeping = new Proxy(target, {
      get: (of, property) => {
        const value: unknown = Reflect.get(of, property)
        if (property === 'remove') return async () => undefined
        return typeof value === 'function' ? value.bind(of) : value
      },
    })
    expect(await withdrawManifests(deps(keeping), now())).toEqual([backup.id])
    expect(await stored(backup)).toContain('manifest.json')
    // it waits, and does not hold up another
    const other = await failed()
    expect(await withdrawManifests(deps(keeping), now(), { later: new Set([backup.id, other.backup.id]) })).toEqual([])
    expect(await withdrawManifests(deps(), now(), { later: new Set([backup.id]) })).toEqual([])
    expect(await stored(other.backup)).toEqual([PACK])
    expect(await stored(backup)).toContain('manifest.json')
    expect(await withdrawManifests(deps(), now())).toEqual([])
    expect(await stored(backup)).toEqual([PACK])
  })

  test('a manifest that a control plane writes late, having slept, goes again', async () => {
    const { backup, claimed } = await failed()
    await withdrawManifests(deps(), now())
    const job = { id: claimed.job.id, backupId: backup.id }
    await expect(resumeCommit(cp(), job)).rejects.toMatchObject({ code: 'attempt_fenced' })
    expect(await stored(backup)).toEqual([PACK])
    // it dies as soon as the manifest is written
    const dying = onRemove(target, () => {
      throw new HoldfastError('target_unreachable', 'the store is away', { retry: true })
    })
    const slept = { ...cp(), target: async () => dying } as ControlPlane
    await expect(resumeCommit(slept, job)).rejects.toMatchObject({ code: 'target_unreachable' })
    expect(await stored(backup)).toContain('manifest.json')
    await withdrawManifests(deps(), now())
    expect(await stored(backup)).toEqual([PACK])
  })

  test('one that is under way or good keeps both', async () => {
    const running = await committed()
    const good = await committed()
    await beginValidation(under.catalog.db, good.of, now(), later(60_000))
    await finishAttempt(under.catalog.db, good.of, { outcome: 'succeeded' }, now())
    expect(await withdrawManifests(deps(), now())).toEqual([])
    for (const { backup } of [running, good]) expect(await stored(backup)).toEqual(['keys/1', 'manifest.json', PACK])
    const recorded = await manifestOf(under.catalog.db, running.backup.id)
    await resumeCommit(cp(), { id: running.claimed.job.id, backupId: running.backup.id })
    expect(await target.get(manifestKey(running.backup))).toEqual(recorded?.bytes)
  })
})

/** The same target, its removals seen first. */
function onRemove(target: StorageTarget, seen: (key: string) => void): StorageTarget {
  return new Proxy(target, {
    get: (of, property) => {
      const value: unknown = Reflect.get(of, property)
      if (property !== 'remove') return typeof value === 'function' ? value.bind(of) : value
      return async (key: string) => {
        seen(key)
        await of.remove(key)
      }
    },
  })
}
