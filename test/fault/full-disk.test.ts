import { mkdir, readdir } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { throwAwayFolder } from '../harness/folders.ts'
import { seeded } from '../harness/seeded.ts'
import { type SmallDisk, smallDisk } from '../harness/small-disk.ts'
import { waitFor } from '../harness/wait.ts'
import { describesBackup, FaultBench, readsPack, storesPack, treeHash, writeTree } from './bench.ts'

/**
 * A disk that is full to the last byte, under each part of the system: it is said what is full, nothing half-made counts, and what is
 * done after there is room again is good.
 */

const MEGABYTES = 64
/** A pack of 16 MiB, and one that is stored long before it where the line is slow. */
const TWO_PACKS = 21_000_000
const LACKS = 'the S3 server cannot be had, or mounting takes rights that this user does not have'

interface Stage extends AsyncDisposable {
  readonly bench: FaultBench
  readonly disk: SmallDisk
  readonly tree: string
}

/** A small disk under `under` of the bench's folder, and a host with a tree that is not on it unless `under` holds it. */
async function stage(under: 'agents/db1' | 'data' | 'store', bytes = 3_000_000): Promise<Stage | null> {
  const storage = under === 'store' ? await throwAwayFolder() : null
  const local = storage && (await smallDisk(path.join(storage.path, 'store'), MEGABYTES))
  if (storage && !local) return null
  const bench = await FaultBench.start(local ? { targets: { primary: { kind: 'local', path: local.path } } } : {})
  if (!bench) return null
  const { folder } = bench.holdfast
  const disk = local ?? (await smallDisk(path.join(folder.path, under), MEGABYTES))
  if (!disk) return null
  const tree = path.join(folder.path, 'data', 'tree')
  await mkdir(tree, { recursive: true })
  await writeTree(tree, seeded(5), bytes)
  await bench.holdfast.addAgent('db1', { sources: { tree: { engine: 'files', path: tree } } })
  const dispose = async () => {
    await Promise.all([...bench.holdfast.agents.values()].map((agent) => agent.stop()))
    await bench.holdfast.stopServer()
    await disk.stop()
    await bench[Symbol.asyncDispose]()
    await storage?.remove()
  }
  return { bench, disk, tree, [Symbol.asyncDispose]: dispose }
}

async function expectNextIsGood({ bench, tree }: Stage): Promise<void> {
  const next = await bench.holdfast.operator.backUp('db1/tree', 'full')
  expect(next).toMatchObject({ status: 'good', valid: true })
  await bench.holdfast.operator.restore(next.id, { target: 'db1/after' })
  expect(await treeHash(path.join(path.dirname(tree), 'after'))).toBe(await treeHash(tree))
}

async function expectNotBelieved({ bench }: Stage, job: JobView): Promise<void> {
  expect((await bench.holdfast.operator.backup(job.backup_id ?? '')).status).toBe('failed')
  const { items } = await bench.holdfast.operator.ask<{ items: BackupView[] }>('GET', '/api/v1/backups?limit=500')
  expect(items.filter(({ status }) => status === 'good')).toEqual([])
}

describe("under the agent's home", () => {
  it.for([
    ['while a pack is stored', storesPack],
    ['when all is stored', describesBackup],
  ] as const)(
    '%s: the backup fails naming the folder, and the next one is good when there is room',
    async ([_name, middle], { skip }) => {
      await using on = await stage('agents/db1')
      if (!on) return skip(LACKS)
      const { caught, release } = on.bench.catchOne(middle)
      const job = await on.bench.holdfast.operator.startBackup('db1/tree', 'full')
      await caught
      await on.disk.fill()
      release()
      const over = await on.bench.over(job)
      expect(over).toMatchObject({ status: 'failed', attempt: 3, error: { code: 'disk_full' } })
      expect(over.error?.message).toContain(on.disk.path)
      await expectNotBelieved(on, over)
      await on.disk.empty()
      await expectNextIsGood(on)
    },
  )
})

describe('under the place of a restore', () => {
  it('the restore fails naming the place and leaves nothing there, and the next one is whole when there is room', async ({
    skip,
  }) => {
    await using on = await stage('data')
    if (!on) return skip(LACKS)
    const { bench, disk, tree } = on
    const good = await bench.holdfast.operator.backUp('db1/tree', 'full')
    const { caught, release } = bench.catchOne(readsPack)
    const job = await bench.holdfast.operator.startRestore(good.id, { target: 'db1/copy' })
    await caught
    await disk.fill()
    release()
    const over = await bench.over(job)
    expect(over).toMatchObject({ status: 'failed', attempt: 3 })
    expect(`${over.error?.code}: ${over.error?.message}`).toMatch(/disk_full.*copy|preflight_failed.*disk_full/)
    expect(await bench.failures(job)).toContain('disk_full')
    expect((await readdir(path.dirname(tree))).sort()).toEqual(['.filler', 'tree'])
    await disk.empty()
    await bench.holdfast.operator.restore(good.id, { target: 'db1/copy' })
    expect(await treeHash(path.join(path.dirname(tree), 'copy'))).toBe(await treeHash(tree))
  })
})

describe('under a local target', () => {
  it.for([
    ['before anything is stored', 'before'],
    ['when a pack is stored', 'after'],
  ] as const)(
    '%s: the backup fails naming the target, nothing counts as one, and the next one is good when there is room',
    async ([_name, filled], { skip }) => {
      await using on = await stage('store', TWO_PACKS)
      if (!on) return skip(LACKS)
      const { bench, disk } = on
      const stored = async (name: string, id: string | null) =>
        (await readdir(disk.path, { recursive: true })).filter(
          (file) => file.startsWith('db1/') && file.includes(`/${id ?? 'none'}/${name}`),
        )
      const limit = (limits: object) =>
        bench.holdfast.operator.ask('PUT', '/api/v1/fleet', {
          policies: { line: { select: { sources: ['db1/tree'] }, targets: ['primary'], limits } },
        })
      await limit({ upload: '500KB/s' })
      if (filled === 'before') await disk.fill()
      const job = await bench.holdfast.operator.startBackup('db1/tree', 'full')
      if (filled === 'after') {
        await waitFor(
          'a pack to be stored',
          async () => (await stored('packs/', (await bench.look(job.id)).backup_id)).length > 0,
        )
        await disk.fill()
        // it was the moment meant: the larger pack is still to come, and has less room than it needs
        const { backup_id: id } = await bench.look(job.id)
        expect(await stored('packs/', id)).toHaveLength(1)
        expect([...(await stored('index', id)), ...(await stored('contents', id))]).toEqual([])
      }
      await limit({})
      const over = await bench.over(job)
      expect(over).toMatchObject({ status: 'failed', attempt: 3, error: { code: 'disk_full' } })
      expect(over.error?.message).toContain('storage target')
      expect(await stored('manifest.json', over.backup_id)).toEqual([])
      await expectNotBelieved(on, over)
      await disk.empty()
      await expectNextIsGood(on)
    },
  )
})
