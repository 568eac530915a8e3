import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BackupSink } from '../../shared/artifacts.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import { createLogger } from '../../shared/log.ts'
import { objectKey } from '../../shared/manifest/layout.ts'
import type { Manifest } from '../../shared/manifest/manifest.ts'
import { pieces, seededBytes } from '../../shared/repository/testing/content.ts'
import { TestFleet } from '../../shared/repository/testing/fleet.ts'
import { openLocal } from '../../shared/storage/local/target.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { waitFor } from '../../test/harness/wait.ts'
import type { Caller } from '../api/operations.ts'
import { getBackup } from '../catalog/backups.ts'
import { listVerifications } from '../catalog/verifications.ts'
import type { ControlPlane } from './control-plane.ts'
import { adoptManifests } from './rebuild-catalog.ts'
import { validateNow } from './start-check.ts'

const log = createLogger({ level: 'silent' })
const by: Caller = { keyId: 'k', keyName: 'me', role: 'operator', sources: [] }

describe.each(await catalogsUnderTest())('a validation that an operator asks for, $kind', ({ open }) => {
  let under: TestCatalog
  let folder: string
  let target: StorageTarget
  let fleet: TestFleet
  let backup: Manifest
  const clock = new FakeClock('2026-02-01T00:00:00Z')

  beforeAll(async () => {
    under = await open()
    folder = await mkdtemp(path.join(tmpdir(), 'holdfast-check-'))
    target = await openLocal(folder, { name: 'primary', clock, create: true })
    fleet = await TestFleet.create()
    const chunking = { kind: 'content-defined', averageBytes: 4096 } as const
    const write = (sink: BackupSink) => sink.stream({ name: 'dump', chunking }, pieces(seededBytes(1, 100_000)))
    backup = await fleet.backup(0, write)
    for (const [key, bytes] of fleet.objects.objects) await target.put(key, bytes)
    await adoptManifests({ catalog: under.catalog, log, verifyingKey: fleet.verifyingKey, targets: [target] })
  })
  afterAll(async () => {
    await under.dispose()
    await target.close()
    await rm(folder, { recursive: true, force: true })
  })

  const cp = (store: StorageTarget) =>
    ({
      ...{ catalog: under.catalog, clock, log, target: async () => store, wake: () => undefined },
      fleet: { verifyingKeyText: fleet.verifyingKey, identity: fleet.identity, recipient: fleet.recipient },
      settings: { maxAttempts: 3, jobDeadlineSeconds: 600 },
    }) as unknown as ControlPlane

  test('is answered with a check made now, and leaves no clock running', async () => {
    expect(await validateNow(cp(target), by, backup.facts.id)).toMatchObject({ validation: { valid: true, errors: [] } })
    expect(clock.sleeping).toBe(0)
    const missing = objectKey(backup.facts, backup.facts.objects.find(({ name }) => name.startsWith('packs/'))?.name ?? '')
    const bytes = await target.get(missing)
    await target.remove(missing)
    const answer = await validateNow(cp(target), by, backup.facts.id)
    expect(answer).toMatchObject({ validation: { valid: false, details: [{ code: 'object_missing', object: missing }] } })
    await target.put(missing, bytes)
  })

  test('is answered with its job after ten seconds, and says nothing of the backup', async () => {
    let asked = 0
    const hanging = new Proxy(target, {
      get: (of, property) => {
        const value: unknown = Reflect.get(of, property)
        if (property !== 'head') return typeof value === 'function' ? value.bind(of) : value
        return (_key: string, signal: AbortSignal) => {
          asked += 1
          return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
        }
      },
    })
    const { db } = under.catalog
    const before = { backup: await getBackup(db, backup.facts.id), found: await listVerifications(db, backup.facts.id) }
    const answer = validateNow(cp(hanging), by, backup.facts.id)
    await waitFor('the store to be asked', () => asked > 0)
    await clock.advance(10_000)
    expect(await answer).toMatchObject({ job: { kind: 'validate', state: 'queued', backupId: backup.facts.id } })
    expect(await getBackup(db, backup.facts.id)).toEqual(before.backup)
    expect(await listVerifications(db, backup.facts.id)).toEqual(before.found)
  })
})
