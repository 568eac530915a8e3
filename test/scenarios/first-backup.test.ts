import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { connect } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readIdentity } from '../../agent/link/identity.ts'
import type { SourceView } from '../../control-plane/api/schemas/agents.ts'
import type { BackupDetail, RestoreDetail, TestRestoreDetail, VerifyDetail } from '../../shared/results.ts'
import { CONTROL_PLANE_NAME } from '../../shared/x509/control-plane-name.ts'
import { TestHoldfast } from '../harness/holdfast.ts'
import { Operator } from '../harness/operator.ts'
import { waitFor } from '../harness/wait.ts'

/** The main job from end to end: two hosts, three kinds of backup, and every way to prove one. */

let holdfast: TestHoldfast
let notes: string
let tree: string

beforeAll(async () => {
  holdfast = await TestHoldfast.start()
  const data = path.join(holdfast.folder.path, 'data')
  tree = path.join(data, 'tree')
  notes = path.join(data, 'notes.db')
  await mkdir(path.join(tree, 'sub'), { recursive: true })
  for (let n = 0; n < 200; n++) await writeFile(path.join(tree, n % 2 ? 'sub' : '.', `file-${n}`), `file ${n}\n`.repeat(n))
  makeNotes(notes, 1, 5000)
  await mkdir(path.join(data, 'other'), { recursive: true })
  makeNotes(path.join(data, 'other', 'own.db'), 1, 10)
  await mkdir(path.join(data, 'other', 'own-tree'))
  await mkdir(path.join(data, 'second'))
  makeNotes(path.join(data, 'second', 'more.db'), 1, 10)
  await holdfast.addAgent('db1', {
    sources: {
      more: { engine: 'sqlite', path: path.join(data, 'second', 'more.db') },
      notes: { engine: 'sqlite', path: notes },
      tree: { engine: 'files', path: tree },
    },
  })
  await holdfast.addAgent('db2', {
    restores_from: ['db1'],
    sources: {
      own: { engine: 'sqlite', path: path.join(data, 'other', 'own.db') },
      'own-tree': { engine: 'files', path: path.join(data, 'other', 'own-tree') },
    },
  })
})

afterAll(() => holdfast?.[Symbol.asyncDispose]())

function makeNotes(file: string, from: number, to: number): void {
  const db = new DatabaseSync(file)
  db.exec('pragma journal_mode = wal; create table if not exists notes (id integer primary key, body text)')
  const insert = db.prepare('insert into notes values (?, ?)')
  db.exec('begin')
  for (let id = from; id <= to; id++) insert.run(id, `note ${id} `.repeat(20))
  db.exec('commit')
  db.close()
}

const detail = <T>(job: { detail: unknown }): T => job.detail as T

describe('a backup', () => {
  it('is made full, incremental and differential, each leaning on what its kind says', async () => {
    const full = await holdfast.operator.backUp('db1/notes', 'full')
    expect(full).toMatchObject({ type: 'full', status: 'good', valid: true, leans_on: [] })
    makeNotes(notes, 5001, 5050)
    const incremental = await holdfast.operator.backUp('db1/notes', 'incremental')
    expect(incremental).toMatchObject({ type: 'incremental', leans_on: [full.id], valid: true })
    expect(incremental.stored_bytes).toBeLessThan((full.stored_bytes ?? 0) / 2)
    makeNotes(notes, 5051, 5060)
    const differential = await holdfast.operator.backUp('db1/notes', 'differential')
    expect(differential).toMatchObject({ type: 'differential', leans_on: [full.id] })
    const next = await holdfast.operator.backUp('db1/notes', 'incremental')
    expect(next.leans_on).toContain(differential.id)
    expect(detail<BackupDetail>(next.job).chunks_skipped).toBeGreaterThan(0)
  })

  it('reads unchanged files of a tree not again', async () => {
    await holdfast.operator.backUp('db1/tree', 'full')
    await writeFile(path.join(tree, 'file-0'), 'changed')
    const incremental = await holdfast.operator.backUp('db1/tree', 'incremental')
    expect(detail<BackupDetail>(incremental.job).read_bytes).toBe('changed'.length)
  })

  it('is made by a dry run only in numbers', async () => {
    const before = await holdfast.operator.ask<{ items: unknown[] }>('GET', '/api/v1/backups?limit=500')
    const job = await holdfast.operator.done(await holdfast.operator.startBackup('db1/notes', 'full', { dry_run: true }))
    expect(detail<BackupDetail>(job)).toMatchObject({ dry_run: true, type: 'full' })
    expect(detail<BackupDetail>(job).read_bytes).toBeGreaterThan(100_000)
    const after = await holdfast.operator.ask<{ items: unknown[] }>('GET', '/api/v1/backups?limit=500')
    expect(after.items.length).toBe(before.items.length)
  })

  it('is proven by validate, by verify on another host, and by a test restore', async () => {
    const backup = await holdfast.operator.backUp('db1/notes', 'incremental')
    expect(await holdfast.operator.validate(backup.id)).toMatchObject({ valid: true, errors: [] })
    const verify = await holdfast.operator.verify(backup.id)
    expect(verify.agent).toBe('db2')
    expect(detail<VerifyDetail>(verify)).toMatchObject({ valid: true, errors: [] })
    const test = await holdfast.operator.testRestore(backup.id)
    expect(detail<TestRestoreDetail>(test)).toMatchObject({ valid: true, findings: [] })
    expect(await holdfast.operator.backup(backup.id)).toMatchObject({ verified_by: 'db2' })
  })

  it('is restored on another host under another name, after a plan that changes nothing', async () => {
    const backup = await holdfast.operator.backUp('db1/notes', 'incremental')
    const copy = path.join(path.dirname(notes), 'other', 'copy.db')
    const plan = await holdfast.operator.restore(backup.id, { target: 'db2/copy.db', dry_run: true })
    expect(detail<RestoreDetail>(plan)).toMatchObject({ plan_only: true })
    await expect(readFile(copy)).rejects.toThrow('ENOENT')
    await holdfast.operator.restore(backup.id, { target: 'db2/copy.db' })
    const count = (file: string) =>
      new DatabaseSync(file, { readOnly: true }).prepare('select count(*) as n, sum(id) as s from notes').get()
    expect(count(copy)).toEqual(count(notes))
    const again = await holdfast.operator.over(await holdfast.operator.startRestore(backup.id, { target: 'db2/copy.db' }))
    expect(again).toMatchObject({ status: 'failed', error: { code: expect.stringMatching(/source_exists|preflight_failed/) } })
    await holdfast.operator.restore(backup.id, { target: 'db2/copy.db', overwrite_existing: true })
  })

  it('is restored beside the source that it is of, whatever else the host has', async () => {
    const backup = await holdfast.operator.backUp('db1/notes', 'incremental')
    const made = await holdfast.operator.restore(backup.id, { target: 'db1/beside.db' })
    expect(made.target).toBe('db1/beside.db')
    expect((await stat(path.join(path.dirname(notes), 'beside.db'))).isFile()).toBe(true)
    const elsewhere = await holdfast.operator.call('POST', `/api/v1/backups/${backup.id}/restore`, {
      target: 'db1/x',
      via: 'db1/none',
    })
    expect(elsewhere).toMatchObject({ status: 404 })
  })

  it('is not restored under other names within where its engine cannot do that, and no plan says otherwise', async () => {
    const backup = await holdfast.operator.backUp('db1/notes', 'incremental')
    const renamed = { target: 'db2/renamed.db', dataset_mapping: { notes: 'remarks' } }
    for (const dryRun of [true, false]) {
      const job = await holdfast.operator.over(await holdfast.operator.startRestore(backup.id, { ...renamed, dry_run: dryRun }))
      expect(job).toMatchObject({ status: 'failed', attempt: 1, error: { code: 'not_supported' } })
    }
    await expect(readFile(path.join(path.dirname(notes), 'other', 'renamed.db'))).rejects.toThrow('ENOENT')
  })

  it('is restored by --to HOST alone under its own name: into the source of that name, else as a new one beside the only one', async () => {
    const backup = await holdfast.operator.backUp('db1/notes', 'incremental')
    const made = await holdfast.operator.restore(backup.id, { target: 'db2' })
    expect(made.target).toBe('db2/notes')
    const count = (file: string) => new DatabaseSync(file, { readOnly: true }).prepare('select count(*) as n from notes').get()
    expect(count(path.join(path.dirname(notes), 'other', 'notes'))).toEqual(count(notes))
    // db1 has a source of that name: its own file, which is there
    const over = await holdfast.operator.over(await holdfast.operator.startRestore(backup.id, { target: 'db1' }))
    expect(over).toMatchObject({ target: 'db1/notes', status: 'failed', error: { message: expect.stringContaining(notes) } })
  })

  it('is not restored by way of a source that the key may not use, whether it is named or the only one', async () => {
    const backup = await holdfast.operator.backUp('db1/notes', 'incremental')
    const body = { name: 'narrow', role: 'operator', sources: ['db1/*', 'db2/copy'] }
    const { key } = await holdfast.operator.ask<{ key: string }>('POST', '/api/v1/api-keys', body)
    const narrow = new Operator(holdfast.operator.url, key)
    for (const more of [{}, { via: 'db2/own' }]) {
      const answer = await narrow.call('POST', `/api/v1/backups/${backup.id}/restore`, { target: 'db2/copy', ...more })
      expect(answer).toMatchObject({ status: 403, body: { code: 'forbidden', detail: expect.stringContaining('db2/own') } })
    }
  })

  it('is not restored onto a host whose own rule does not allow it', async () => {
    const own = await holdfast.operator.backUp('db2/own', 'full')
    const refused = await holdfast.operator.over(
      await holdfast.operator.startRestore(own.id, { target: 'db1/stolen.db', via: 'db1/notes' }),
    )
    expect(refused).toMatchObject({ status: 'failed', error: { code: 'restore_not_allowed' } })
  })

  it('carries on after the control plane was stopped and started', async () => {
    const before = await holdfast.operator.backUp('db1/notes', 'full')
    await holdfast.stopServer()
    await holdfast.startServer()
    await holdfast.connected('db1')
    const after = await holdfast.operator.backUp('db1/notes', 'incremental')
    expect(after.leans_on).toContain(before.id)
  })
})

describe('two restores', () => {
  it('never write one place at once, whatever names lead to it', async () => {
    const backup = await holdfast.operator.backUp('db1/notes', 'full')
    const same = { target: 'db2/one.db' }
    const first = await holdfast.operator.startRestore(backup.id, same)
    const second = await holdfast.operator.call('POST', `/api/v1/backups/${backup.id}/restore`, same)
    expect(second).toMatchObject({ status: 409, body: { code: 'overlap' } })
    await holdfast.operator.done(first)
    const byName = await holdfast.operator.startRestore(backup.id, { target: 'db2/own', overwrite_existing: true })
    const byFile = await holdfast.operator.startRestore(backup.id, {
      target: 'db2/own.db',
      via: 'db2/own',
      overwrite_existing: true,
    })
    const ends = await Promise.all([holdfast.operator.over(byName), holdfast.operator.over(byFile)])
    // one after the other both may succeed; at once the later one is refused
    for (const end of ends) expect(end.error?.code ?? 'overlap').toBe('overlap')
    expect(ends.some((end) => end.status === 'succeeded')).toBe(true)
  })
})

describe('a local target', () => {
  it("is served by a certificate of the fleet's own authority", async () => {
    const identity = await readIdentity(holdfast.agents.get('db1')?.home ?? '')
    const { objects } = holdfast.server.ports
    const shown = (ca: string | undefined) =>
      new Promise<string>((resolve) => {
        const socket = connect({ host: '127.0.0.1', port: objects ?? 0, servername: CONTROL_PLANE_NAME, ...(ca ? { ca } : {}) })
        socket
          .once('secureConnect', () => resolve(socket.authorized ? 'authorized' : 'not authorized'))
          .once('error', (error) => resolve(String((error as NodeJS.ErrnoException).code)))
        socket.once('secureConnect', () => socket.destroy())
      })
    expect(await shown(identity?.authorityPem)).toBe('authorized')
    expect(await shown(undefined)).toMatch(/SELF_SIGNED_CERT|UNABLE_TO/)
  })
})

describe('the list of known chunks', () => {
  it('is kept for the last backup and the last full alone, and rebuilt from the store when it is gone', async () => {
    const full = await holdfast.operator.backUp('db1/notes', 'full')
    await holdfast.operator.backUp('db1/notes', 'incremental')
    const last = await holdfast.operator.backUp('db1/notes', 'incremental')
    const folder = path.join(holdfast.agents.get('db1')?.home ?? '', 'known', 'notes')
    const lists = (await readdir(folder)).filter((name) => name.endsWith('.known'))
    expect(lists.sort()).toEqual([`${full.id}.known`, `${last.id}.known`].sort())
    await rm(folder, { recursive: true })
    makeNotes(notes, 6001, 6010)
    const next = await holdfast.operator.backUp('db1/notes', 'incremental')
    expect(next).toMatchObject({ type: 'incremental', valid: true })
    expect(next.leans_on).toContain(full.id)
    expect(detail<BackupDetail>(next.job).chunks_skipped).toBeGreaterThan(0)
  })
})

describe('what a source is', () => {
  it('is shown, also that a store does not answer, and no agent waits for one', async () => {
    const silent = createServer(() => undefined)
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
    const { port } = silent.address() as AddressInfo
    const odd = path.join(holdfast.folder.path, 'data', 'odd\nname.db')
    makeNotes(odd, 1, 1)
    await holdfast.addAgent('db3', {
      sources: {
        odd: { engine: 'sqlite', path: odd },
        gone: { engine: 'postgres', url: 'postgres://backup@127.0.0.1:1/app' },
        silent: { engine: 'postgres', url: `postgres://backup@127.0.0.1:${port}/app` },
      },
    })
    const facts = async () => {
      const { items } = await holdfast.operator.ask<{ items: SourceView[] }>('GET', '/api/v1/sources')
      return ['odd', 'gone', 'silent'].map((name) => items.find(({ source }) => source === `db3/${name}`)?.facts)
    }
    // connected, and its sources known, while nothing is known of the store that hangs
    expect((await facts())[2]).toEqual({})
    const isKnown = (one: object | undefined) => Object.keys(one ?? {}).length > 0
    const found = await waitFor(
      'all of them to be described',
      async () => {
        const all = await facts()
        return all.every(isKnown) && all
      },
      // more often is over the limit of requests
      { everyMs: 500 },
    )
    expect(found).toEqual([
      { path: odd.replace('\n', '\ufffd'), size_bytes: String((await stat(odd)).size), journal: 'wal' },
      { unreachable: expect.stringContaining('source_unreachable') },
      { unreachable: 'no answer within 10 s' },
    ])
    silent.close()
  })
})
