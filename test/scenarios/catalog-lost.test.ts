import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Secret } from '../../shared/secret.ts'
import { TestHoldfast } from '../harness/holdfast.ts'

/** The control plane's own disk fails. What is in the bucket, a recovery identity and at most a self-backup bring it back. */

let holdfast: TestHoldfast
let tree: string

beforeEach(async () => {
  holdfast = await TestHoldfast.start()
  tree = path.join(holdfast.folder.path, 'tree')
  await mkdir(tree)
  await writeFile(path.join(tree, 'one'), 'the first version\n'.repeat(1000))
  await holdfast.addAgent('db1', { sources: { tree: { engine: 'files', path: tree } } })
})
afterEach(() => holdfast?.[Symbol.asyncDispose]())

const home = (): string => path.join(holdfast.folder.path, 'server')

describe('a catalog that was lost', () => {
  it('is made again from the self-backup and the manifests; agents, keys and the chain of backups carry on', async () => {
    const full = await holdfast.operator.backUp('db1/tree', 'full')
    await holdfast.stopServer()
    await rm(path.join(home(), 'catalog'), { recursive: true })
    await holdfast.startServer({ rebuild: {} })
    await holdfast.connected('db1')
    expect(await holdfast.operator.backup(full.id)).toMatchObject({ status: 'good', stored_bytes: full.stored_bytes })
    await writeFile(path.join(tree, 'two'), 'new')
    const next = await holdfast.operator.backUp('db1/tree', 'incremental')
    expect(next).toMatchObject({ type: 'incremental', leans_on: [full.id], valid: true })
    expect((await holdfast.operator.testRestore(next.id)).detail).toMatchObject({ valid: true })
  })

  it('is kept aside, whatever state it is in', async () => {
    await holdfast.stopServer()
    await holdfast.startServer({ rebuild: {} })
    expect((await readdir(home())).filter((name) => name.startsWith('catalog.before-'))).toHaveLength(1)
  })

  it('comes back from the targets and a recovery identity alone when the whole disk is gone', async () => {
    const full = await holdfast.operator.backUp('db1/tree', 'full')
    const key = holdfast.server.fleet.verifyingKeyText
    await holdfast.stopServer()
    await rm(home(), { recursive: true })
    await rm(path.join(holdfast.folder.path, 'keyring'))
    await holdfast.startServer({ rebuild: { identity: new Secret(holdfast.recovery.identity) } })
    expect(holdfast.server.fleet.verifyingKeyText).toBe(key)
    expect(await holdfast.operator.backup(full.id)).toMatchObject({ status: 'good' })
    expect(await holdfast.operator.validate(full.id)).toMatchObject({ valid: true, errors: [] })
  })

  it('believes no manifest that the fleet did not sign', async () => {
    const full = await holdfast.operator.backUp('db1/tree', 'full')
    const folder = path.join(holdfast.storeFolder, 'db1', 'tree')
    await mkdir(path.join(folder, '20300101T000000Z-aaaaaaaaaa'))
    await writeFile(path.join(folder, '20300101T000000Z-aaaaaaaaaa', 'manifest.json'), '{"facts":{"format":1}}')
    await holdfast.stopServer()
    await rm(path.join(home(), 'catalog'), { recursive: true })
    await rm(path.join(home(), 'self-backup'), { recursive: true })
    await holdfast.startServer({ rebuild: {} })
    const { items } = await holdfast.operator.ask<{ items: Array<{ id: string }> }>('GET', '/api/v1/backups?limit=50')
    expect(items.map((item) => item.id)).toEqual([full.id])
  })
})
