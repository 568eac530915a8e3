import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { BackupView, CleanupView } from '../../control-plane/api/schemas/backups.ts'
import type { FleetDiffView } from '../../control-plane/api/schemas/fleet.ts'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { TestHoldfast } from '../harness/holdfast.ts'
import { waitFor } from '../harness/wait.ts'

/** A policy is applied, fires by itself, and lets go of what it no longer keeps. */

let holdfast: TestHoldfast

beforeAll(async () => {
  holdfast = await TestHoldfast.start()
  const tree = path.join(holdfast.folder.path, 'tree')
  await mkdir(tree)
  await writeFile(path.join(tree, 'file'), 'content\n'.repeat(1000))
  await holdfast.addAgent('db1', { sources: { tree: { engine: 'files', path: tree, labels: { env: 'production' } } } })
})
afterAll(() => holdfast?.[Symbol.asyncDispose]())

const policies = (schedule: string) => ({
  policies: {
    everything: {
      select: { engine: ['files'], labels: { env: 'production' } },
      schedule: { full: schedule },
      targets: ['primary'],
      retention: { last: 1 },
    },
  },
})
const list = () => holdfast.operator.ask<{ items: BackupView[] }>('GET', '/api/v1/backups?source=db1/tree&limit=50')

it('a diff shows what applying changes, applying does it, and again there is nothing to change', async () => {
  const file = policies('0 3 1 1 *')
  const diff = await holdfast.operator.ask<FleetDiffView>('POST', '/api/v1/fleet/diff', file)
  expect(diff).toMatchObject({ applied: false, changes: [{ kind: 'policy', name: 'everything', action: 'create' }] })
  await holdfast.operator.ask('PUT', '/api/v1/fleet', file)
  expect(await holdfast.operator.ask<FleetDiffView>('POST', '/api/v1/fleet/diff', file)).toMatchObject({
    applied: false,
    changes: [],
  })
})

it('a fleet file with a key that is not known changes nothing', async () => {
  const wrong = { policies: { everything: { ...policies('* * * * *').policies.everything, retension: { last: 9 } } } }
  const refused = await holdfast.operator.call('PUT', '/api/v1/fleet', wrong)
  expect(refused.status).toBe(400)
  expect(JSON.stringify(refused.body)).toContain('retension')
  const { items } = await holdfast.operator.ask<{ items: Array<{ revision: number }> }>('GET', '/api/v1/policies')
  expect(items).toMatchObject([{ revision: 1 }])
})

it('a schedule fires by itself, once for each time that is due', async () => {
  await holdfast.operator.ask('PUT', '/api/v1/fleet', policies('* * * * *'))
  const fired = await waitFor(
    'the schedule to fire',
    async () => {
      const { items } = await holdfast.operator.ask<{ items: JobView[] }>('GET', '/api/v1/jobs?kind=backup&limit=50')
      return items.find((job) => job.policy === 'everything')
    },
    { timeoutMs: 100_000, everyMs: 500 },
  )
  expect(fired.requested_by).toBe('schedule:everything')
  await holdfast.operator.done(fired)
  await holdfast.operator.ask('PUT', '/api/v1/fleet', policies('0 3 1 1 *'))
  const { items } = await holdfast.operator.ask<{ items: JobView[] }>('GET', '/api/v1/jobs?kind=backup&limit=50')
  // of all that fired before: beside one at work no other backup may run
  for (const job of items) await holdfast.operator.done(job)
  const due = items.map((job) => job.created_at.slice(0, 16))
  expect(new Set(due).size).toBe(due.length)
})

it('retention shows first what it would remove, keeps the last good one, and never a base that is leaned on', async () => {
  const base = await holdfast.operator.backUp('db1/tree', 'full')
  const last = await holdfast.operator.backUp('db1/tree', 'incremental')
  expect(last.leans_on).toEqual([base.id])
  const preview = await holdfast.operator.ask<CleanupView>('POST', '/api/v1/cleanup', { dry_run: true })
  expect(preview.remove.length).toBeGreaterThan(0)
  const going = preview.remove.map((row) => row.id)
  expect(going).not.toContain(last.id)
  expect(going).not.toContain(base.id)
  expect((await list()).items.every((backup) => backup.status === 'good')).toBe(true)
  const done = await holdfast.operator.ask<CleanupView>('POST', '/api/v1/cleanup', { dry_run: false })
  expect(done.remove.map((row) => row.id).sort()).toEqual(going.sort())
  for (const id of going) expect((await holdfast.operator.backup(id)).status).toBe('expired')
  expect(await holdfast.operator.backup(last.id)).toMatchObject({ status: 'good' })
  const { items } = await holdfast.operator.ask<{ items: Array<{ subject: string; action: string }> }>(
    'GET',
    '/api/v1/audit?limit=100',
  )
  for (const id of going) expect(items.some((entry) => entry.subject === id)).toBe(true)
  expect((await holdfast.operator.testRestore(last.id)).detail).toMatchObject({ valid: true })
})
