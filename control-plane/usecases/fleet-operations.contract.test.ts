import { rename } from 'node:fs/promises'
import path from 'node:path'
import { eq } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { createLogger } from '../../shared/log.ts'
import { manifestKey } from '../../shared/manifest/layout.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { type ThrowAwayFolder, throwAwayFolder } from '../../test/harness/folders.ts'
import type { Caller } from '../api/operations.ts'
import { type BackupRef, createBackup } from '../catalog/backups.ts'
import { makeHost } from '../catalog/fleet-fixture.ts'
import { getTarget, listPolicies } from '../catalog/policies.ts'
import { backups, copies } from '../catalog/schema/schema.ts'
import { Targets } from '../storage/targets.ts'
import type { ControlPlane } from './control-plane.ts'
import { fleetOperations } from './fleet-operations.ts'

describe.each(await catalogsUnderTest())('targets and policies, $kind', ({ open }) => {
  let under: TestCatalog
  let folder: ThrowAwayFolder
  let targets: Targets
  const clock = new FakeClock()
  beforeAll(async () => {
    under = await open()
    folder = await throwAwayFolder()
    targets = new Targets({ catalog: under.catalog, clock, signer: undefined as never })
    await targets.configure('primary', local('one'))
  })
  afterAll(async () => {
    await targets.close()
    await under.dispose()
    await folder.remove()
  })
  const local = (name: string) => ({ kind: 'local' as const, path: path.join(folder.path, name) })
  const operations = () =>
    fleetOperations(
      {
        catalog: under.catalog,
        clock,
        log: createLogger({ level: 'silent' }),
        settings: { defaultTarget: 'primary' },
        wake: () => undefined,
      } as unknown as ControlPlane,
      targets,
    )
  const by = {} as Caller
  const apply = (file: object) => operations().applyFleet(by, file as never)

  async function goodOn(target: string): Promise<BackupRef> {
    const { db } = under.catalog
    const host = await makeHost(db, clock.now())
    const spec = {
      source: host.source,
      type: 'full',
      target,
      jobId: 'none',
      parts: [],
      description: null,
      recipients: [],
    } as const
    const row = await createBackup(db, spec, clock.now())
    await db.update(backups).set({ status: 'good', valid: true }).where(eq(backups.id, row.id))
    await db.update(copies).set({ state: 'good' }).where(eq(copies.backupId, row.id))
    await (await targets.get(target)).put(manifestKey(row), Buffer.from('{}'))
    return row
  }

  test('a target that holds backups moves only to where they are', async () => {
    await targets.configure('moving', local('before'))
    await targets.configure('moving', local('empty still'))
    const held = await goodOn('moving')
    await expect(targets.configure('moving', local('elsewhere'))).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining(held.id),
    })
    expect((await getTarget(under.catalog.db, 'moving')).config).toEqual(local('empty still'))
    await rename(path.join(folder.path, 'empty still'), path.join(folder.path, 'moved'))
    await targets.configure('moving', local('moved'))
    expect((await getTarget(under.catalog.db, 'moving')).config).toEqual(local('moved'))
  })

  test('a file that would leave a policy, or sources without one, without a target is refused, and changes nothing', async () => {
    const primary = local('one')
    await targets.configure('second', local('two'))
    await apply({ policies: { p: { targets: ['second'] } } })
    const moving = (await getTarget(under.catalog.db, 'moving').catch(() => null))?.config
    const rest = moving ? { moving } : {}
    await expect(apply({ targets: { ...rest, primary } })).rejects.toMatchObject({
      code: 'invalid_config',
      message: 'policy p names target second, which does not exist',
    })
    await expect(apply({ targets: { ...rest, second: local('two') } })).rejects.toMatchObject({
      code: 'invalid_config',
      message: expect.stringContaining('target primary is where backups go'),
    })
    expect(await getTarget(under.catalog.db, 'second')).toMatchObject({ kind: 'local' })
    await apply({ targets: { ...rest, primary }, policies: { p: { targets: ['primary'] } } })
    await expect(getTarget(under.catalog.db, 'second')).rejects.toMatchObject({ code: 'not_found' })
    expect(await listPolicies(under.catalog.db)).toMatchObject([{ name: 'p', spec: { targets: ['primary'] } }])
  })
})
