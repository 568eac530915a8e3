import { mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import type { LockedKeysView } from '../../control-plane/api/schemas/unlock.ts'
import { sealForJob } from '../../control-plane/cli/seal-for-job.ts'
import { DEFAULT_LIMITS } from '../../control-plane/server/options.ts'
import { newAgeIdentity, recipientOf } from '../../shared/age/age.ts'
import { jobKeyFingerprint } from '../../shared/age/job-key.ts'
import { Secret } from '../../shared/secret.ts'
import { type TestAgent, TestHoldfast } from '../harness/holdfast.ts'
import { Operator } from '../harness/operator.ts'
import { Thief } from '../harness/thief.ts'
import { fingerprintOnHost, lyingControlPlane, unlockCommand, waiting } from '../harness/unlock.ts'

/** Who would like to have the keys of a backup that the control plane cannot open, and tries by way of an unlock. */

let holdfast: TestHoldfast
let db2: TestAgent
let pay: BackupView
let staff: BackupView
const at = (...names: string[]) => path.join(holdfast.folder.path, ...names)

beforeAll(async () => {
  holdfast = await TestHoldfast.start()
  const sources = ['pay', 'staff', 'own'].map((name) => {
    const db = new DatabaseSync(at(`${name}.db`))
    db.exec(`create table t (id integer primary key, body text); insert into t (body) values ('${name}')`)
    db.close()
    return [name, { engine: 'sqlite', path: at(`${name}.db`) }] as const
  })
  await mkdir(at('db2'))
  await holdfast.addAgent('db1', { sources: Object.fromEntries(sources.slice(0, 2)) })
  db2 = await holdfast.addAgent('db2', { restores_from: ['db1'], sources: Object.fromEntries(sources.slice(2)) })
  await holdfast.operator.ask('PUT', '/api/v1/fleet', { policies: { hr: { targets: ['primary'], recipients: 'recovery' } } })
  pay = await holdfast.operator.backUp('db1/pay', 'full')
  staff = await holdfast.operator.backUp('db1/staff', 'full')
  await writeFile(at('recovery.key'), holdfast.recoveryFile(), { mode: 0o600 })
  await writeFile(at('other.key'), `${(await newAgeIdentity()).reveal()}\n`, { mode: 0o600 })
})
afterAll(() => holdfast?.[Symbol.asyncDispose]())

let made = 0
const startRestore = async (backup = pay): Promise<JobView> =>
  waiting(holdfast, await holdfast.operator.startRestore(backup.id, { target: `db2/copy-${++made}.db` }))
const locked = (job: JobView) => holdfast.operator.ask<LockedKeysView>('GET', `/api/v1/jobs/${job.id}/unlock`)
const post = (job: JobView, body: unknown) => holdfast.operator.call('POST', `/api/v1/jobs/${job.id}/unlock`, body)
const identity = () => at('recovery.key')
const sealed = async (keys: LockedKeysView) => ({
  recipient: keys.unlock.recipient,
  keys: await sealForJob(keys, [new Secret(holdfast.recovery.identity)]),
})
const stillWaits = async (job: JobView) => expect((await holdfast.operator.job(job.id)).unlock?.unlocked_at).toBeNull()
const cancel = async (job: JobView) => {
  await holdfast.operator.ask('POST', `/api/v1/jobs/${job.id}/cancel`, {})
  return holdfast.operator.over(job)
}

describe('the operator’s command', () => {
  it('opens nothing for a wrong fingerprint, or for none where nobody can be asked: status 5', async () => {
    const job = await startRestore()
    const right = await fingerprintOnHost(db2, job)
    const wrong = right.startsWith('0') ? `1${right.slice(1)}` : `0${right.slice(1)}`
    await using watched = await lyingControlPlane(holdfast.operator.url, (keys) => keys)
    const given = { identity: identity(), url: watched.url }
    expect(await unlockCommand(holdfast, job, { ...given, fingerprint: wrong })).toMatchObject({ status: 5 })
    expect(await unlockCommand(holdfast, job, given)).toMatchObject({ status: 5, err: expect.stringContaining('--fingerprint') })
    expect(await unlockCommand(holdfast, job, { ...given, answer: 'yes' })).toMatchObject({ status: 5 })
    // a key that is no recipient's opens nothing, and sends nothing
    const other = await unlockCommand(holdfast, job, { ...given, identity: at('other.key'), fingerprint: right })
    expect(other).toMatchObject({ status: 1, err: expect.stringContaining('not sealed to any of the identities') })
    expect(watched.posted).toEqual([])
    await stillWaits(job)
    const asked = await unlockCommand(holdfast, job, { ...given, answer: ` ${right.toUpperCase()} ` })
    expect(asked).toMatchObject({ status: 0, asked: [expect.stringContaining('holdfast-agent jobs')] })
    expect(watched.posted).toHaveLength(1)
    expect(watched.posted.join()).not.toContain('AGE-SECRET-KEY')
    await holdfast.operator.done(job)
  })

  it('finds a control plane that swaps the public key, whatever fingerprint it shows', async () => {
    const job = await startRestore()
    const thief = await recipientOf(await newAgeIdentity())
    const fingerprint = await fingerprintOnHost(db2, job)
    await using liar = await lyingControlPlane(holdfast.operator.url, (keys: LockedKeysView) => ({
      ...keys,
      unlock: { ...keys.unlock, recipient: thief, fingerprint },
    }))
    const answer = await unlockCommand(holdfast, job, { identity: identity(), url: liar.url, fingerprint })
    expect(answer).toMatchObject({ status: 5, err: expect.stringContaining('passes off a key') })
    expect(liar.posted).toEqual([])
    await cancel(job)
  })

  it('finds one that lays another backup’s key files before it, under this one’s name or its own', async () => {
    const [job, other] = [await startRestore(pay), await startRestore(staff)]
    const fingerprint = await fingerprintOnHost(db2, job)
    const [foreign] = (await locked(other)).backups
    const lies: Array<(keys: LockedKeysView) => unknown> = [
      (keys) => ({ ...keys, backups: keys.backups.map((one) => ({ ...one, files: foreign?.files })) }),
      (keys) => ({ ...keys, backups: [...keys.backups, foreign] }),
      (keys) => ({ ...keys, backup_id: staff.id, backups: [foreign] }),
      (keys) => ({ ...keys, backups: keys.backups.map((one) => ({ ...one, files: [] })) }),
    ]
    for (const lie of lies) {
      await using liar = await lyingControlPlane(holdfast.operator.url, lie)
      expect(await unlockCommand(holdfast, job, { identity: identity(), url: liar.url, fingerprint })).toMatchObject({
        status: 5,
      })
      expect(liar.posted).toEqual([])
    }
    await cancel(job)
    await cancel(other)
  })
})

describe('an unlock', () => {
  it('of one job is refused for another, and a second time for its own', async () => {
    const [job, other] = [await startRestore(pay), await startRestore(pay)]
    const body = await sealed(await locked(job))
    expect(await post(other, body)).toMatchObject({ status: 409, body: { code: 'conflict' } })
    await stillWaits(other)
    expect(await post(job, body)).toMatchObject({ status: 202 })
    expect(await post(job, body)).toMatchObject({ status: 409, body: { code: 'job_state' } })
    await holdfast.operator.done(job)
    expect(await post(job, body)).toMatchObject({ status: 409, body: { code: 'job_state' } })
    await cancel(other)
  })

  it('that is malformed, too large, of other keys or not whole is refused, and the job still waits', async () => {
    const job = await startRestore()
    const good = await sealed(await locked(job))
    const [key] = good.keys
    const bad: Array<[unknown, number]> = [
      [{ ...good, keys: [] }, 400],
      [{ ...good, keys: [{ ...key, file: 'not base 64' }] }, 400],
      [{ ...good, keys: [{ ...key, file: Buffer.from('no age file').toString('base64') }] }, 400],
      [{ ...good, keys: [{ ...key, file: Buffer.alloc(100_000).toString('base64') }] }, 400],
      [{ ...good, keys: [{ ...key, attempt: 2 }] }, 400],
      [{ ...good, keys: [{ ...key, backup_id: staff.id }] }, 400],
      [{ ...good, keys: [key, key] }, 400],
      [{ ...good, keys: Array.from({ length: 5000 }, () => key) }, 400],
      [{ ...good, recipient: 'age1' }, 400],
      [{ ...good, more: 1 }, 400],
      [{ ...good, recipient: await recipientOf(await newAgeIdentity()) }, 409],
      [{ ...good, keys: [{ ...key, file: 'A'.repeat(17 * 1024 * 1024) }] }, 413],
    ]
    for (const [body, status] of bad) expect(await post(job, body)).toMatchObject({ status })
    await stillWaits(job)
    // sealed to somebody else under the right recipient's name: the host cannot open it, and the job says so
    const elsewhere = await sealed({
      ...(await locked(job)),
      unlock: { ...(await locked(job)).unlock, recipient: await recipientOf(await newAgeIdentity()) },
    })
    expect(await post(job, { ...elsewhere, recipient: good.recipient })).toMatchObject({ status: 202 })
    expect(await holdfast.operator.over(job)).toMatchObject({ status: 'failed', error: { code: 'key_missing' } })
  })

  it('is for operators, of sources that their key selects', async () => {
    const job = await startRestore()
    const keyOf = async (role: string, sources: string[]) =>
      new Operator(
        holdfast.operator.url,
        (await holdfast.operator.ask<{ key: string }>('POST', '/api/v1/api-keys', { name: `${role}${++made}`, role, sources }))
          .key,
      )
    const viewer = await keyOf('viewer', [])
    const elsewhere = await keyOf('operator', ['db2/*'])
    const route = `/api/v1/jobs/${job.id}/unlock`
    expect(await viewer.call('GET', route)).toMatchObject({ status: 403 })
    expect(await viewer.call('POST', route, {})).toMatchObject({ status: 403 })
    // the place that is written is theirs, the backup that is read is not
    expect(await elsewhere.call('GET', `/api/v1/jobs/${job.id}`)).toMatchObject({ status: 200 })
    expect(await elsewhere.call('GET', route)).toMatchObject({ status: 404 })
    expect(await (await keyOf('operator', ['db1/*', 'db2/*'])).call('GET', route)).toMatchObject({ status: 200 })
    await cancel(job)
  })

  it('of a cancelled job is refused: nothing waits any more, and the host has forgotten the key', async () => {
    const job = await startRestore()
    const body = await sealed(await locked(job))
    expect(await cancel(job)).toMatchObject({ status: 'cancelled' })
    expect(await post(job, body)).toMatchObject({ status: 409, body: { code: 'job_state' } })
    await expect(fingerprintOnHost(db2, job)).rejects.toThrow('no fingerprint')
  })
})

describe('whoever writes the bucket', () => {
  it('lays another backup’s key file there: the job fails naming it, before a person is called', async () => {
    const [from, to] = [pay, staff].map((backup) => path.join(holdfast.storeFolder, backup.source, backup.id, 'keys', '1'))
    const before = await readFile(to ?? '')
    await writeFile(to ?? '', await readFile(from ?? ''))
    try {
      const job = await holdfast.operator.over(
        await holdfast.operator.startRestore(staff.id, { target: `db2/copy-${++made}.db` }),
      )
      expect(job).toMatchObject({ status: 'failed', error: { code: 'object_damaged' }, unlock: null })
      expect(job.error?.message).toContain(`${staff.id}/keys/1`)
      expect(await holdfast.operator.validate(staff.id)).toMatchObject({ valid: false, errors: ['object_damaged'] })
    } finally {
      await writeFile(to ?? '', before)
    }
  })
})

describe('an agent', () => {
  it('older than such backups is told to be updated; one with a stolen certificate cannot change the key, nor ask for another’s job', async () => {
    const db1Job = await waiting(
      holdfast,
      await holdfast.operator.ask<JobView>('POST', `/api/v1/backups/${pay.id}/test-restore`, {}),
    )
    await using thief = await Thief.of(holdfast, 'db2')
    await db2.stop()
    await thief.connect([{ name: 'own', engine: 'sqlite' }])
    const job = await holdfast.operator.startRestore(pay.id, { target: `db2/copy-${++made}.db` })
    const { jobId, attempt, needsUnlock } = await thief.command(job.id)
    expect(needsUnlock).toBe(true)
    const [one, two] = [await recipientOf(await newAgeIdentity()), await recipientOf(await newAgeIdentity())]
    const update = { code: 'not_supported', hint: expect.stringContaining('Update the agent') }
    await expect(thief.objects.openBackups({ jobId, attempt, recipient: one })).rejects.toMatchObject(update)
    await expect(thief.objects.askUnlock({ jobId, attempt, recipient: 'age1' })).rejects.toMatchObject({
      code: 'invalid_argument',
    })
    expect(await thief.objects.askUnlock({ jobId, attempt, recipient: one })).toMatchObject({ unlocked: false })
    await expect(thief.objects.askUnlock({ jobId, attempt, recipient: two })).rejects.toMatchObject({ code: 'conflict' })
    await expect(thief.objects.askUnlock({ jobId, attempt: attempt + 1, recipient: two })).rejects.toMatchObject({
      code: 'attempt_fenced',
    })
    await expect(thief.objects.askUnlock({ ...db1Job, jobId: db1Job.id, recipient: two })).rejects.toMatchObject({
      code: 'not_found',
    })
    await expect(thief.objects.openBackups({ jobId, attempt, recipient: one })).rejects.toMatchObject(update)
    // its fingerprint is not one that the host shows
    const shown = (await holdfast.operator.job(jobId)).unlock?.fingerprint
    expect(shown).toBe(jobKeyFingerprint({ jobId, backupId: pay.id, recipient: one }))
    await expect(fingerprintOnHost(db2, job)).rejects.toThrow('no fingerprint')
    thief.fail({ jobId, attempt })
    await holdfast.operator.over(job)
    await cancel(db1Job)
  })
})

describe('the wait', () => {
  it('ends: the job fails, says why, and is not tried again', async () => {
    await holdfast.stopServer()
    await holdfast.startServer({ limits: { ...DEFAULT_LIMITS, unlockSeconds: 10 } })
    await db2.start()
    const job = await startRestore()
    const body = await sealed(await locked(job))
    expect(await holdfast.operator.over(job)).toMatchObject({ status: 'failed', attempt: 1, error: { code: 'unlock_expired' } })
    expect(await post(job, body)).toMatchObject({ status: 409, body: { code: 'job_state' } })
  })
})
