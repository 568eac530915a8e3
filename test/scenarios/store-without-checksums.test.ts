import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { describesBackup, FaultBench, storesPack, treeHash, writeTree } from '../fault/bench.ts'
import type { Fault, SeenRequest } from '../harness/fault-proxy.ts'
import { seeded } from '../harness/seeded.ts'
import { waitFor } from '../harness/wait.ts'

/** A service that keeps no SHA-256 and so can say nothing of the bytes it has: the control plane looks at them itself. */

let bench: FaultBench | null
let tree: string

beforeAll(async () => {
  bench = await FaultBench.start({ logLevel: 'silent', limits: { maxAttempts: 1 } })
  if (!bench) return
  tree = path.join(bench.holdfast.folder.path, 'data', 'tree')
  await mkdir(tree, { recursive: true })
  await writeTree(tree, seeded(7), 500_000)
  await bench.holdfast.addAgent('db1', { sources: { tree: { engine: 'files', path: tree } } })
})

afterAll(() => bench?.[Symbol.asyncDispose]())

beforeEach(({ skip }) => {
  if (!bench) skip('the S3 server cannot be had on this machine')
})

const use = (): FaultBench => bench as FaultBench
const HASH = ['x-amz-checksum-sha256']

function forgetful(on: FaultBench, more: (request: SeenRequest) => Fault | undefined = () => undefined): void {
  on.proxy.script = (request) => {
    const known = more(request)
    if (known) return known
    return request.method === 'HEAD' ? { kind: 'without-headers', names: HASH } : { kind: 'pass' }
  }
}

it('objects are served by the control plane only where a target is a local folder', () => {
  expect(use().holdfast.server.ports.objects).toBeNull()
})

describe('a service that keeps no SHA-256', () => {
  it('takes a backup, also when the reply to a put is lost, and gives it back', async () => {
    const on = use()
    let lost = 0
    forgetful(on, (request) => {
      if (!storesPack(request) || lost > 0) return undefined
      lost += 1
      return { kind: 'lose-reply' }
    })
    const job = await on.done(await on.holdfast.operator.startBackup('db1/tree', 'full'))
    expect({ lost, attempt: job.attempt }).toEqual({ lost: 1, attempt: 1 })
    // the control plane read what lay there before it said that nothing had to be sent again
    const { seen } = on.proxy
    expect(seen.some(({ method, url }) => method === 'GET' && url.includes(`${job.backup_id}/packs/`))).toBe(true)
    await on.done(await on.holdfast.operator.startRestore(job.backup_id ?? '', { target: 'db1/copy' }))
    expect(await treeHash(path.join(path.dirname(tree), 'copy'))).toBe(await treeHash(tree))
  })

  it('has size and hash of each object checked after the PUT by the control plane: other bytes are never committed', async () => {
    const on = use()
    const held = Promise.withResolvers<void>()
    let caught = false
    forgetful(on, (request) => {
      if (caught || !describesBackup(request)) return undefined
      caught = true
      return { kind: 'hold', release: held.promise }
    })
    const job = await on.holdfast.operator.startBackup('db1/tree', 'full')
    await waitFor('the packs to be stored', () => caught)
    const { backup_id } = await on.look(job.id)
    const pack = (await on.keys()).find((key) => key.includes(`${backup_id}/packs/`))
    await on.flip(pack ?? '')
    held.resolve()
    const over = await on.over(job)
    expect(over).toMatchObject({ status: 'failed', error: { code: 'object_missing' } })
    expect(over.error?.message).toContain('other bytes')
    expect((await on.keys()).filter((key) => key.includes(over.backup_id ?? '?') && key.endsWith('/manifest.json'))).toEqual([])
  })
})
