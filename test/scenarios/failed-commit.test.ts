import { mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import { FaultBench, writeTree } from '../fault/bench.ts'
import type { Fault, SeenRequest } from '../harness/fault-proxy.ts'
import { seeded } from '../harness/seeded.ts'
import { waitFor } from '../harness/wait.ts'

/** The store loses a pack between the commit of a backup and its validation: the backup fails, and nothing may believe its manifest. */

let bench: FaultBench | null

beforeAll(async () => {
  bench = await FaultBench.start({ logLevel: 'silent' })
  if (!bench) return
  const tree = path.join(bench.holdfast.folder.path, 'data', 'tree')
  await mkdir(tree, { recursive: true })
  await writeTree(tree, seeded(1), 500_000)
  await bench.holdfast.addAgent('db1', { sources: { tree: { engine: 'files', path: tree } } })
})

afterAll(() => bench?.[Symbol.asyncDispose]())

beforeEach(({ skip }) => {
  if (!bench) skip('the S3 server cannot be had on this machine')
})

const use = (): FaultBench => bench as FaultBench
const home = () => path.join(use().holdfast.folder.path, 'server')

/** Once a manifest is written, the store has no packs of its backup any more, as far as anybody asks. */
function losesPacks(on: FaultBench, more: (request: SeenRequest) => Fault | undefined = () => undefined): void {
  let committed: string | undefined
  on.proxy.script = (request) => {
    const written = request.method === 'PUT' && /\/([0-9TZ]+-[0-9a-z]{10})\/manifest\.json/.exec(request.url)?.[1]
    if (written) committed = written
    const asked = committed && request.method === 'HEAD' && request.url.includes(`${committed}/packs/`)
    return asked ? { kind: 'status', status: 404 } : (more(request) ?? { kind: 'pass' })
  }
}

async function failedBackup(on: FaultBench): Promise<BackupView> {
  const job = await on.over(await on.holdfast.operator.startBackup('db1/tree', 'full'))
  expect(job).toMatchObject({ status: 'failed', error: { code: 'backup_invalid' } })
  return on.holdfast.operator.backup(job.backup_id ?? '')
}

const kindsOf = async (on: FaultBench, { id }: BackupView) =>
  new Set((await on.keys()).filter((key) => key.includes(id)).map((key) => key.split('/')[3]))
const refusesRemoval = ({ method, url }: SeenRequest): Fault | undefined =>
  method === 'DELETE' && url.includes('/manifest.json') ? { kind: 'status', status: 403 } : undefined

describe('a backup that does not validate after its commit', () => {
  it('has no manifest and no keys in the store from then on', async () => {
    const on = use()
    losesPacks(on)
    const failed = await failedBackup(on)
    await waitFor('manifest and keys to be gone', async () => {
      const kinds = await kindsOf(on, failed)
      return !kinds.has('manifest.json') && !kinds.has('keys')
    })
    // it was not the removal of what attempts leave, which waits until the last address has expired
    expect(await kindsOf(on, failed)).toContain('packs')
  })

  it('is not believed by a rebuilt catalog where the store kept its manifest, which then goes', async () => {
    const on = use()
    losesPacks(on, refusesRemoval)
    const failed = await failedBackup(on)
    await on.holdfast.stopServer()
    expect(await kindsOf(on, failed)).toContain('manifest.json')
    await on.holdfast.startServer({ rebuild: {} })
    expect(await on.holdfast.operator.backup(failed.id)).toMatchObject({ status: 'failed' })
    await on.holdfast.stopServer()
    losesPacks(on)
    // whatever the last start left undone is done by the next
    await on.holdfast.startServer()
    await waitFor('the manifest to be gone', async () => !(await kindsOf(on, failed)).has('manifest.json'))
  })

  it('is found not valid by a catalog that is rebuilt from the store alone', async () => {
    const on = use()
    losesPacks(on, refusesRemoval)
    const failed = await failedBackup(on)
    await on.holdfast.stopServer()
    for (const name of ['catalog', 'self-backup']) await rm(path.join(home(), name), { recursive: true })
    await on.holdfast.startServer({ rebuild: {} })
    await waitFor('the newest backup to be judged', async () => (await on.holdfast.operator.backup(failed.id)).valid === false)
    expect(await on.holdfast.operator.call('POST', `/api/v1/backups/${failed.id}/restore`, {})).toMatchObject({
      status: 422,
      body: { code: 'backup_invalid' },
    })
  })
})
