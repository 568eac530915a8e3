import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { BackupView, CleanupView } from '../../control-plane/api/schemas/backups.ts'
import type { FleetDiffView } from '../../control-plane/api/schemas/fleet.ts'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import type { StatusView } from '../../control-plane/api/schemas/system.ts'
import { type Ran, run } from '../../control-plane/cli/testing.ts'
import { tryCommand } from '../harness/commands.ts'
import { TestHoldfast } from '../harness/holdfast.ts'

/** An operator's day with nothing but the command line, against a real control plane and a real agent. */

let holdfast: TestHoldfast
let etc: string
let environment: Record<string, string>

beforeAll(async () => {
  holdfast = await TestHoldfast.start()
  const data = path.join(holdfast.folder.path, 'data')
  etc = path.join(data, 'etc')
  await mkdir(etc, { recursive: true })
  await writeFile(path.join(etc, 'app.conf'), 'first')
  await writeFile(path.join(etc, 'stays'), 'not changed '.repeat(10_000))
  await mkdir(path.join(data, 'web'))
  await writeFile(path.join(data, 'web', 'index'), 'page')
  await holdfast.addAgent('db1', {
    sources: { etc: { engine: 'files', path: etc }, web: { engine: 'files', path: path.join(data, 'web') } },
  })
  // as beside a server: its home has the address and the first key
  environment = { HOLDFAST_HOME: path.join(holdfast.folder.path, 'server') }
})
afterAll(() => holdfast?.[Symbol.asyncDispose]())

const hf = (...args: string[]): Promise<Ran> => run(null, args, { environment, cwd: holdfast.folder.path })
async function json<T>(...args: string[]): Promise<T> {
  const { status, out, err } = await hf(...args, '--format', 'json')
  expect(status, err).toBe(0)
  return JSON.parse(out) as T
}
const latest = async () =>
  (await json<{ items: BackupView[] }>('list', '--source', 'db1/etc', '--status', 'good', '--limit', '1')).items[0]

test('backs up, looks, proves and restores', async () => {
  const unnamed = await hf('create')
  expect([unnamed.status, unnamed.err]).toEqual([2, expect.stringContaining('db1/etc, db1/web')])

  const full = await hf('create', 'db1/etc', '--type', 'full', '--description', 'before upgrade', '--watch')
  expect(full.status, full.err).toBe(0)
  expect(full.out).toMatch(/status +succeeded/)
  await writeFile(path.join(etc, 'app.conf'), 'second')
  const incremental = await json<JobView>('create', 'db1/etc', '--type', 'incremental')
  expect(incremental.status).toBe('succeeded')
  const backup = await json<BackupView>('show', 'latest:db1/etc')
  expect(backup).toMatchObject({ id: incremental.backup_id, type: 'incremental', leans_on: [expect.any(String)], valid: true })
  const ending = backup.id.slice(-6)
  expect((await hf('show', ending)).out).toContain(backup.id)
  expect((await hf('list')).out).toContain('before upgrade')

  for (const command of ['validate', 'verify', 'test-restore']) {
    const done = await hf(command, ending)
    expect([done.status, done.out], done.err).toEqual([0, expect.stringMatching(/valid/)])
  }

  const plan = await hf('restore', ending, '--to', 'db1/etc_copy', '--plan', '--via', 'db1/etc')
  expect([plan.status, plan.out]).toEqual([0, expect.stringMatching(/makes/)])
  const copy = path.join(path.dirname(etc), 'etc_copy', 'app.conf')
  await expect(readFile(copy)).rejects.toThrow('ENOENT')
  expect((await hf('restore', ending, '--to', 'db1/etc_copy', '--via', 'db1/etc')).status).toBe(0)
  expect(await readFile(copy, 'utf8')).toBe('second')
  await writeFile(copy, 'spoilt')
  const again = ['restore', ending, '--to', 'db1/etc_copy', '--via', 'db1/etc']
  expect((await hf(...again)).status).toBe(1)
  expect(await readFile(copy, 'utf8')).toBe('spoilt')
  expect((await hf(...again, '--overwrite')).status).toBe(2)
  expect((await hf(...again, '--overwrite', '--yes')).status).toBe(0)
  expect(await readFile(copy, 'utf8')).toBe('second')
})

test('backs up the whole fleet with one verdict, and one source that fails makes it partial', async () => {
  const all = await json<{ items: JobView[] }>('create', '--all')
  expect(all.items.map((job) => [job.source, job.status])).toEqual([
    ['db1/etc', 'succeeded'],
    ['db1/web', 'succeeded'],
  ])
  const web = path.join(path.dirname(etc), 'web')
  await rename(web, `${web}.away`)
  const partly = await hf('create', '--all', '--dry-run')
  await rename(`${web}.away`, web)
  expect(partly.status, partly.out).toBe(3)
})

test('sees jobs, their logs and the fleet', async () => {
  const [job] = (await json<{ items: JobView[] }>('jobs', '--limit', '1', '--status', 'succeeded')).items
  expect((await hf('jobs', job?.id.slice(-6) ?? '')).out).toContain(job?.id)
  expect((await hf('logs', job?.id ?? '', '-f')).out).toMatch(/state +succeeded/)
  expect((await hf('cancel', job?.id ?? '')).status).toBe(1)
  expect((await hf('agents')).out).toMatch(/db1 +connected/)
  expect((await hf('sources')).out).toMatch(/db1\/etc +files +connected/)
  const status = await json<StatusView>('status')
  expect(status.sources.map((source) => [source.source, source.protected])).toEqual([
    ['db1/etc', true],
    ['db1/web', true],
  ])
  // db1 alone has verified and test-restored what it made
  const own = {
    verified_at: null,
    test_restored_at: null,
    own_verified_at: expect.any(String),
    own_test_restored_at: expect.any(String),
  }
  expect(status.sources[0]).toMatchObject(own)
  expect((await hf('list', '--source', 'db1/ect')).status).toBe(4)
  const test = await hf('test')
  expect(test.status, test.out).toBe(0)
  expect((await hf('audit')).out).toMatch(/key:admin +backup\.start +db1\/etc +done/)
  expect(await hf('audit', '--verify')).toMatchObject({ status: 0, out: expect.stringContaining('the chain holds') })
})

test('keeps the fleet as one file, and cleans up as it says', async () => {
  const file = path.join(holdfast.folder.path, 'fleet.yaml')
  await writeFile(file, 'policies: { files: { select: { engine: [files] }, targets: [primary], retention: { last: 1 } } }')
  const before = await json<FleetDiffView>('diff', '-f', 'fleet.yaml')
  expect(before).toMatchObject({ applied: false, changes: [{ kind: 'policy', name: 'files', action: 'create' }] })
  expect((await json<FleetDiffView>('apply', '-f', 'fleet.yaml')).applied).toBe(true)
  expect((await json<FleetDiffView>('diff', '-f', 'fleet.yaml')).changes).toEqual([])
  const preview = await json<CleanupView>('cleanup', '--dry-run')
  const kept = await latest()
  expect(preview.remove.map((one) => one.id)).not.toContain(kept?.id)
  const cleaned = await json<CleanupView>('cleanup')
  expect(cleaned.remove.map((one) => one.id)).toEqual(preview.remove.map((one) => one.id))
  expect((await hf('show', 'latest:db1/etc')).out).toContain(kept?.id)
})

test('lets others in with keys that can do no more than they should', async () => {
  const key = await json<{ id: string; key: string }>('api-keys', 'create', 'web team', '--role', 'operator', '--source', '*/web')
  const as = { ...environment, HOLDFAST_API_KEY: key.key }
  const limited = (...args: string[]) => run(null, args, { environment: as, cwd: holdfast.folder.path })
  expect((await limited('list')).out).not.toContain('db1/etc')
  expect((await limited('create', 'db1/etc')).status).toBe(5)
  expect((await limited('create')).status).toBe(0)
  expect((await hf('api-keys', 'revoke', key.id, '--yes')).status).toBe(0)
  expect((await limited('list')).status).toBe(5)
})

test('is a program: one document on standard output, its status for scripts', async () => {
  const program = fileURLToPath(new URL('../../control-plane/cli/main.ts', import.meta.url))
  const flags = ['--disable-warning=ExperimentalWarning', program]
  const list = await tryCommand(process.execPath, [...flags, 'list', '--format', 'json'], { env: environment })
  expect([list.status, list.stderr]).toEqual([0, ''])
  expect(JSON.parse(list.stdout)).toHaveProperty('items')
  const missing = await tryCommand(process.execPath, [...flags, 'show', '0000'], { env: environment })
  expect([missing.status, missing.stdout]).toEqual([4, ''])
})
