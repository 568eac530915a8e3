import { existsSync, readdirSync } from 'node:fs'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { syncTree } from '../../control-plane/catalog/sync.ts'
import { copyEmptyCatalog } from '../harness/catalogs.ts'
import { TestHoldfast } from '../harness/holdfast.ts'
import { type FragileDisk, fragileDisk } from '../harness/power-cut.ts'
import type { StartedProcess } from '../harness/processes.ts'
import { seeded } from '../harness/seeded.ts'
import { ShiftedClock } from '../harness/shifted-clock.ts'
import { waitFor } from '../harness/wait.ts'
import { treeHash, writeTree } from './bench.ts'

/**
 * The power of the control plane's host goes while a job is at work: embedded catalog and local target lose at one moment what
 * neither has synced. The job still ends good, what was good before is good, and nothing else counts as a backup.
 */

/** The catalog, its log, and all backups. */
const DISK_MEGABYTES = 512
/** A pack of 16 MiB, and one that is stored long before it. */
const TREE_BYTES = 24_000_000
/** So slow that a job is in its middle for a quarter of a minute and more, also on a machine that stands still for a while. */
const SLOWLY = { upload: '500KB/s', download: '500KB/s' }
/** For what may have to begin anew once the control plane is back. */
const LIMIT_MS = 240_000

const clock = new ShiftedClock()
/** What each backup that was made here has to give back. */
const contents = new Map<string, string>()
let disk: FragileDisk | null
let holdfast: TestHoldfast
let server: StartedProcess
let data: string
let tree: string
let restores = 0

beforeAll(async () => {
  disk = await fragileDisk(DISK_MEGABYTES)
  if (!disk) return
  const home = path.join(disk.path, 'server')
  const catalog = path.join(home, 'catalog')
  await mkdir(catalog, { recursive: true })
  await copyEmptyCatalog(catalog)
  // as whoever makes one does; from now on the test syncs nothing
  await syncTree(catalog)
  holdfast = await TestHoldfast.start({
    home,
    clock,
    catalog: { kind: 'embedded', folder: catalog },
    targets: { primary: { kind: 'local', path: path.join(disk.path, 'store') } },
  })
  data = path.join(holdfast.folder.path, 'data')
  tree = path.join(data, 'tree')
  await mkdir(tree, { recursive: true })
  await holdfast.addAgent('db1', { sources: { tree: { engine: 'files', path: tree } } })
  server = await holdfast.startShiftedServer(clock)
  await holdfast.connected('db1')
})

afterAll(async () => {
  await Promise.all([...(holdfast?.agents.values() ?? [])].map((agent) => agent.stop()))
  await server?.stop({ signal: 'SIGKILL' })
  await holdfast?.[Symbol.asyncDispose]()
  await disk?.stop()
})

function use(skip: (why: string) => never): FragileDisk {
  return disk ?? skip('mounting a file system needs root')
}

const limit = (limits: object) =>
  holdfast.operator.ask('PUT', '/api/v1/fleet', {
    policies: { line: { select: { sources: ['db1/tree'] }, targets: ['primary'], limits } },
  })

/** Other content each time, so that no backup can give back what another has. */
async function startBackup(): Promise<{ job: JobView; id: string }> {
  await writeTree(tree, seeded(contents.size + 1), TREE_BYTES)
  const hash = await treeHash(tree)
  const job = await holdfast.operator.startBackup('db1/tree', 'full')
  const id = await waitFor('the backup to have a name', async () => (await holdfast.operator.job(job.id)).backup_id)
  contents.set(id, hash)
  return { job, id }
}

async function backUp(): Promise<string> {
  const { job, id } = await startBackup()
  await holdfast.operator.done(job, LIMIT_MS)
  return id
}

/** Keys of the objects in the store that can be seen. */
function keys(on: FragileDisk): string[] {
  const files = readdirSync(path.join(on.path, 'store'), { recursive: true, withFileTypes: true }).filter((file) => file.isFile())
  return files.map((file) => path.relative(on.path, path.join(file.parentPath, file.name))).filter((key) => !key.includes('/~'))
}

const packsOf = (on: FragileDisk, id: string) => keys(on).filter((key) => key.includes(`/${id}/packs/`))
const backupsIn = (on: FragileDisk) =>
  keys(on)
    .filter((key) => key.endsWith('/manifest.json'))
    .map((key) => key.split('/').at(-2))

/** All stands still first: who lost power tells nobody of a disk that fails. `holds`: it was the moment meant. */
async function cutPower(on: FragileDisk, holds: () => void = () => undefined): Promise<void> {
  server.kill('SIGSTOP')
  holds()
  const unsynced = path.join(on.path, 'never-synced')
  await writeFile(unsynced, 'x')
  on.cut()
  await server.stop({ signal: 'SIGKILL' })
  await on.comeBack()
  // proof that the cut was one
  expect(await readFile(unsynced, 'utf8').catch(() => '')).toBe('')
  server = await holdfast.startShiftedServer(clock)
  await limit({})
}

async function expectRestores(id: string): Promise<void> {
  restores += 1
  const name = `again-${restores}`
  await holdfast.operator.restore(id, { target: `db1/${name}` })
  expect(await treeHash(path.join(data, name))).toBe(contents.get(id))
}

/** These and no others are good, by catalog and store, and give back their sources. Beside the trees nothing lies about. */
async function expectGood(on: FragileDisk, ids: readonly string[]): Promise<void> {
  const { items } = await holdfast.operator.ask<{ items: BackupView[] }>('GET', '/api/v1/backups?limit=500')
  const good = items.filter(({ status }) => status === 'good').map(({ id }) => id)
  expect(good.sort()).toEqual([...ids].sort())
  expect(backupsIn(on).sort()).toEqual(good)
  for (const id of good) {
    expect((await holdfast.operator.validate(id)).valid).toBe(true)
    expect((await holdfast.operator.verify(id)).detail).toMatchObject({ valid: true, errors: [] })
    await expectRestores(id)
  }
  expect((await readdir(data)).filter((name) => name.startsWith('.'))).toEqual([])
}

describe("the power of a control plane's host cut", () => {
  it('while a backup is stored: it ends good, what was good before is good, and the next one is', async ({ skip }) => {
    const on = use(skip)
    const before = await backUp()
    await limit(SLOWLY)
    const { job, id } = await startBackup()
    await waitFor('a pack to be stored', () => packsOf(on, id).length > 0, { timeoutMs: LIMIT_MS })
    await cutPower(on, () =>
      expect(keys(on).filter((key) => /index|contents|manifest/.test(key) && key.includes(id))).toEqual([]),
    )
    await holdfast.operator.done(job, LIMIT_MS)
    await expectGood(on, [before, id, await backUp()])
  })

  it('in a restore: it ends with one whole tree, and so does the same restore afterwards', async ({ skip }) => {
    const on = use(skip)
    const id = [...contents.keys()][0] ?? (await backUp())
    await limit(SLOWLY)
    const copy = path.join(data, 'copy')
    const job = await holdfast.operator.startRestore(id, { target: 'db1/copy' })
    const written = async () => (await holdfast.operator.job(job.id)).progress?.written_bytes ?? 0
    await waitFor('some of it to be written', async () => (await written()) > 0, { timeoutMs: LIMIT_MS })
    await cutPower(on, () => expect(existsSync(copy)).toBe(false))
    await holdfast.operator.done(job, LIMIT_MS)
    expect(await treeHash(copy)).toBe(contents.get(id))
    await expectGood(on, [...contents.keys()])
  })
})
