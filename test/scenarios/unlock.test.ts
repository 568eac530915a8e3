import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import type { FleetDiffView } from '../../control-plane/api/schemas/fleet.ts'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import type { StatusView } from '../../control-plane/api/schemas/system.ts'
import { run } from '../../control-plane/cli/testing.ts'
import { objectKey } from '../../shared/manifest/layout.ts'
import { openDataKeys } from '../../shared/repository/keys.ts'
import type { BackupDetail, TestRestoreDetail, VerifyDetail } from '../../shared/results.ts'
import { Secret } from '../../shared/secret.ts'
import { runCommand } from '../harness/commands.ts'
import { type TestAgent, TestHoldfast } from '../harness/holdfast.ts'
import { fingerprintOnHost, jobsOnHost, unlockCommand, waiting } from '../harness/unlock.ts'
import { waitFor } from '../harness/wait.ts'

/**
 * A policy without the fleet's recipient, from its making to a restore on another host: the control plane, its keys and its catalog open none
 * of it, and a person with the recovery key unlocks each job.
 */

const AGENT = fileURLToPath(new URL('../../agent/main.ts', import.meta.url))
let holdfast: TestHoldfast
let db2: TestAgent
const at = (...names: string[]) => path.join(holdfast.folder.path, ...names)
const backups: BackupView[] = []

beforeAll(async () => {
  holdfast = await TestHoldfast.start()
  await mkdir(at('db1'))
  await mkdir(at('db2'))
  makeNotes(at('db1', 'notes.db'), 1, 2000)
  makeNotes(at('db1', 'open.db'), 1, 10)
  makeNotes(at('db2', 'own.db'), 1, 10)
  const notes = { engine: 'sqlite', path: at('db1', 'notes.db'), labels: { of: 'hr' } }
  await holdfast.addAgent('db1', { sources: { notes, open: { engine: 'sqlite', path: at('db1', 'open.db') } } })
  const own = { engine: 'sqlite', path: at('db2', 'own.db') }
  db2 = await holdfast.addAgent('db2', { restores_from: ['db1'], sources: { own } })
  await writeFile(at('recovery.key'), holdfast.recoveryFile(), { mode: 0o600 })
})
afterAll(() => holdfast?.[Symbol.asyncDispose]())

function makeNotes(file: string, from: number, to: number): void {
  const db = new DatabaseSync(file)
  db.exec('pragma journal_mode = wal; create table if not exists notes (id integer primary key, body text); begin')
  const insert = db.prepare('insert into notes values (?, ?)')
  for (let id = from; id <= to; id++) insert.run(id, `note ${id} `.repeat(20))
  db.exec('commit')
  db.close()
}
const rows = (file: string) => new DatabaseSync(file, { readOnly: true }).prepare('select * from notes order by id').all()

const apply = (recipients: 'all' | 'recovery', more: object = {}) =>
  holdfast.operator.ask<FleetDiffView>('PUT', '/api/v1/fleet', {
    policies: {
      everything: { targets: ['primary'] },
      hr: { select: { labels: { of: 'hr' } }, targets: ['primary'], recipients },
      ...more,
    },
  })
const opens = async (backup: BackupView, identity: Secret) => {
  const [host = '', source = ''] = backup.source.split('/')
  const keys = objectKey({ host, source, id: backup.id }, 'keys/1')
  return openDataKeys(await readFile(path.join(holdfast.storeFolder, keys)), [identity]).then(
    (opened) => opened.keys.length,
    (error: { code: string }) => error.code,
  )
}
/** As the operator does it: what the host shows, typed where the recovery key is. */
async function unlocked(job: JobView, agent: TestAgent): Promise<JobView> {
  await waiting(holdfast, job)
  const fingerprint = await fingerprintOnHost(agent, job)
  const answer = await unlockCommand(holdfast, job, { fingerprint, identity: at('recovery.key') })
  expect(answer).toMatchObject({ status: 0 })
  return holdfast.operator.done(job)
}

describe('a policy without the fleet’s recipient', () => {
  it('says when it is made, and in status, what it costs', async () => {
    const before = await holdfast.operator.backUp('db1/notes', 'full')
    expect(before).toMatchObject({ needs_unlock: false })
    expect(await opens(before, holdfast.server.fleet.identity)).toBe(1)
    const { findings } = await apply('recovery')
    expect(findings[0]).toMatchObject({ code: 'sealed_to_recovery', severity: 'warning', subject: 'hr' })
    expect(findings[1]).toMatchObject({ code: 'recipients_overruled', subject: 'everything' })
    const status = await holdfast.operator.ask<StatusView>('GET', '/api/v1/status')
    expect(Object.fromEntries(status.sources.map((one) => [one.source, one.recipients]))).toEqual({
      'db1/notes': 'recovery',
      'db1/open': 'all',
      'db2/own': 'all',
    })
    const shown = await run(holdfast.operator.url, ['status'], { environment: { HOLDFAST_API_KEY: holdfast.operator.key } })
    expect(shown.out).toContain('by hand only')
    expect(shown.err).toContain('db1/notes: sealed to the recovery recipients alone')
  })

  it('makes the next run a full that says why, and seals it to the recovery recipients alone, by hand too', async () => {
    const full = await holdfast.operator.backUp('db1/notes', 'incremental')
    expect(full).toMatchObject({ type: 'full', valid: true, needs_unlock: true, leans_on: [] })
    expect((full.job.detail as unknown as BackupDetail).reason).toContain('sealed to other recipients')
    makeNotes(at('db1', 'notes.db'), 2001, 2010)
    const next = await holdfast.operator.backUp('db1/notes', 'incremental')
    expect(next).toMatchObject({ type: 'incremental', leans_on: [full.id], needs_unlock: true })
    for (const backup of [full, next]) {
      expect(await opens(backup, holdfast.server.fleet.identity)).toBe('key_missing')
      expect(await opens(backup, new Secret(holdfast.recovery.identity))).toBe(1)
    }
    backups.push(full, next)
  })

  it('validates without keys, and says what it did not look at', async () => {
    const [, next] = backups as [BackupView, BackupView]
    const answer = await holdfast.operator.validate(next.id)
    expect(answer).toMatchObject({
      valid: true,
      errors: [],
      not_checked: [expect.stringContaining('blocks'), expect.any(String)],
    })
    const open = await holdfast.operator.backUp('db1/open', 'full')
    expect(await holdfast.operator.validate(open.id)).toMatchObject({ valid: true, not_checked: [] })
  })
})

describe('a restore of it', () => {
  it('waits, visibly, until an operator has compared the fingerprint and opened the keys where the recovery key is', async () => {
    const [, next] = backups as [BackupView, BackupView]
    const job = await holdfast.operator.startRestore(next.id, { target: 'db2/copy.db' })
    const waits = await waiting(holdfast, job)
    const [onHost] = await jobsOnHost(db2)
    expect(onHost).toMatchObject({ job: job.id, backup: next.id, fingerprint: waits.unlock?.fingerprint })
    expect(db2.process.output()).toContain(waits.unlock?.fingerprint)
    const journal = await readFile(path.join(db2.home, 'journal', `${job.id}.json`), 'utf8')
    expect(journal).toContain('AGE-SECRET-KEY-1')

    const answer = await unlockCommand(holdfast, job, { fingerprint: onHost?.fingerprint ?? '', identity: at('recovery.key') })
    expect(answer).toMatchObject({
      status: 0,
      err: expect.stringContaining(`restore ${job.id} on db2 reads ${next.id} of db1/notes`),
    })
    const done = await holdfast.operator.done(job)
    expect(done).toMatchObject({ attempt: 1, unlock: { unlocked_by: expect.stringMatching(/^key:/) } })
    expect(rows(at('db2', 'copy.db'))).toEqual(rows(at('db1', 'notes.db')))
    await waitFor(
      'the host to forget the job and its key',
      async () => (await readdir(path.join(db2.home, 'journal'))).length === 0,
    )
  })

  it('is in the audit trail, with the fingerprint that was compared and without the keys', async () => {
    const { items } = await holdfast.operator.ask<{ items: Array<{ action: string; detail: Record<string, unknown> }> }>(
      'GET',
      '/api/v1/audit?limit=200',
    )
    const of = (action: string) => items.find((item) => item.action === action)
    expect(of('backup.unlock')?.detail).toMatchObject({ agent: 'db2', fingerprint: expect.stringMatching(/^[0-9a-f-]{39}$/) })
    expect(of('job.unlock')?.detail).toMatchObject({ request: { recipient: expect.stringMatching(/^age1/) } })
    expect(items).toContainEqual(
      expect.objectContaining({ action: 'backup.open', detail: expect.objectContaining({ unlocked: true }) }),
    )
    expect(JSON.stringify(items)).not.toContain(Buffer.from('age-encryption.org/v1').toString('base64').slice(0, 24))
  })

  it('goes on after its agent was killed, with the same key: nobody has to unlock it twice', async () => {
    const [, next] = backups as [BackupView, BackupView]
    const job = await holdfast.operator.startRestore(next.id, { target: 'db2/again.db' })
    const before = await waiting(holdfast, job)
    const fingerprint = await fingerprintOnHost(db2, job)
    await db2.stop('SIGKILL')
    expect(await unlockCommand(holdfast, job, { fingerprint, identity: at('recovery.key') })).toMatchObject({ status: 0 })
    await db2.start()
    const done = await holdfast.operator.done(job)
    expect(done.attempt).toBeGreaterThan(before.attempt)
    expect(done.unlock?.fingerprint).toBe(fingerprint)
    expect(rows(at('db2', 'again.db'))).toEqual(rows(at('db1', 'notes.db')))
  })

  it('and a plan, a verification and a test restore by hand wait likewise', async () => {
    const [, next] = backups as [BackupView, BackupView]
    const plan = await unlocked(await holdfast.operator.startRestore(next.id, { target: 'db2/plan.db', dry_run: true }), db2)
    expect(plan.detail).toMatchObject({ plan_only: true })
    const verify = await unlocked(await holdfast.operator.ask<JobView>('POST', `/api/v1/backups/${next.id}/verify`, {}), db2)
    expect(verify.detail as unknown as VerifyDetail).toMatchObject({ valid: true, errors: [] })
    const db1 = holdfast.agents.get('db1') as TestAgent
    const test = await unlocked(await holdfast.operator.ask<JobView>('POST', `/api/v1/backups/${next.id}/test-restore`, {}), db1)
    expect(test.detail as unknown as TestRestoreDetail).toMatchObject({ valid: true, findings: [] })
    expect(await holdfast.operator.backup(next.id)).toMatchObject({ verified_by: 'db2' })
  })
})

describe('the setting', () => {
  it('taken back makes a full again, which the control plane opens', async () => {
    await apply('all')
    const full = await holdfast.operator.backUp('db1/notes', 'incremental')
    expect(full).toMatchObject({ type: 'full', needs_unlock: false })
    expect((full.job.detail as unknown as BackupDetail).reason).toContain('sealed to other recipients')
    expect(await holdfast.operator.verify(full.id)).toMatchObject({ unlock: null })
  })
})

describe('recovery without the control plane', () => {
  it('restores such a backup with the recovery key, as it does any other', async () => {
    const [, next] = backups as [BackupView, BackupView]
    await holdfast.stopServer()
    const args = ['--store', holdfast.storeFolder, '--identity', at('recovery.key')]
    const recover = (...more: string[]) =>
      runCommand(process.execPath, ['--disable-warning=ExperimentalWarning', AGENT, 'recover', ...more, ...args])
    expect(await recover('list', '--format', 'json')).toContain(next.id)
    expect(await recover('restore', next.id, '--to', at('recovered'))).toContain('counts agree')
    const [file = ''] = await readdir(at('recovered'))
    expect(rows(at('recovered', file))).toEqual(rows(at('db1', 'notes.db')))
    await holdfast.startServer()
  })
})
