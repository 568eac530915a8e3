import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AuditView } from '../../control-plane/api/schemas/access.ts'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { newAgeIdentity, recipientOf } from '../../shared/age/age.ts'
import { type Clock, systemClock } from '../../shared/clock.ts'
import type { SignedRequest } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import { backupFolder } from '../../shared/manifest/layout.ts'
import type { Facts, Manifest } from '../../shared/manifest/manifest.ts'
import { signFacts } from '../../shared/manifest/sign.ts'
import { openDataKeys } from '../../shared/repository/keys.ts'
import { type OneStore, standingOnOneStore } from '../harness/raw-store.ts'
import { altered, send, Thief } from '../harness/thief.ts'
import type { StoreKind } from '../harness/two-stores.ts'
import { waitFor } from '../harness/wait.ts'

/** Somebody has db1's certificate and key, and speaks to the control plane as he likes. */

let aheadMs = 0

const clock: Clock = { ...systemClock, now: () => new Date(systemClock.now().getTime() + aheadMs) }

describe.each<StoreKind>(['local', 's3'])('on a %s target', async (kind) => {
  const on = await standingOnOneStore(kind, { clock })
  if (on) thefts(on, kind)
  else it.skip('cannot be had on this machine', () => undefined)
})

function thefts(on: OneStore, kind: StoreKind): void {
  let thief: Thief
  /** The other host, whose agent does nothing while the thief tries to reach its jobs. */
  let victim: Thief
  let older: BackupView
  let newer: BackupView
  let other: BackupView
  beforeAll(async () => {
    for (const name of ['db1', 'db2']) {
      const tree = path.join(on.holdfast.folder.path, 'data', name)
      await mkdir(tree, { recursive: true })
      await writeFile(path.join(tree, 'file'), `what ${name} keeps\n`.repeat(5000))
      await on.holdfast.addAgent(name, { sources: { tree: { engine: 'files', path: tree } } })
    }
    older = await on.holdfast.operator.backUp('db1/tree', 'full')
    newer = await on.holdfast.operator.backUp('db1/tree', 'full')
    other = await on.holdfast.operator.backUp('db2/tree', 'full')
    thief = await takeOver('db1')
    victim = await takeOver('db2')
  })

  afterAll(async () => {
    await thief?.[Symbol.asyncDispose]()
    await victim?.[Symbol.asyncDispose]()
  })

  async function takeOver(name: string): Promise<Thief> {
    const taken = await Thief.of(on.holdfast, name)
    await on.holdfast.agents.get(name)?.stop()
    await taken.connect([{ name: 'tree', engine: 'files' }])
    return taken
  }

  type Call = { jobId: string; attempt: number }
  type Step = (call: Call) => Promise<unknown>

  const keysOf = (backup: BackupView, name = 'keys/1'): string => `${folderOf(backup)}${name}`
  const folderOf = (backup: BackupView): string => {
    const [host = '', source = ''] = backup.source.split('/')
    return backupFolder({ host, source, id: backup.id })
  }
  const manifestOf = async (backup: BackupView): Promise<Manifest> =>
    JSON.parse((await on.store.read(keysOf(backup, 'manifest.json'))).toString('utf8')) as Manifest
  const sha256 = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest()
  const refusal = (code: string) => expect.objectContaining({ code })

  /** A bucket knows no such request of an object, whoever asks. */
  const posted = kind === 's3' ? 405 : 403

  /** What lies in the store of both hosts. */
  async function stored(): Promise<Record<string, string>> {
    const keys = [...(await on.store.keys('db1/')), ...(await on.store.keys('db2/'))]
    return Object.fromEntries(
      await Promise.all(keys.map(async (key) => [key, sha256(await on.store.read(key)).toString('hex')] as const)),
    )
  }

  async function recipient(): Promise<string> {
    return recipientOf(await newAgeIdentity())
  }

  const steps: Record<string, Step> = {
    'read objects': (call) => thief.objects.signGets({ ...call, objects: [{ key: keysOf(other) }] }),
    'write objects': (call) => thief.objects.signPuts({ ...call, objects: [object('packs/1-0123456789abcdef')] }),
    'open backups': async (call) => thief.objects.openBackups({ ...call, recipient: await recipient() }),
    'commit a backup': async (call) => thief.objects.commitBackup({ ...call, facts: signed((await manifestOf(newer)).facts) }),
  }

  const object = (name: string, bytes = Buffer.from('bytes')) => ({ name, size: BigInt(bytes.length), sha256: sha256(bytes) })
  const signed = (facts: Facts, by: Thief = thief): Buffer => Buffer.from(JSON.stringify(signFacts(facts, by.identity)))

  /** A job that is at work on the host whose place was taken. */
  async function atWork(job: JobView, by: Thief = thief): Promise<Call> {
    const { jobId, attempt } = await by.command(job.id)
    await waitFor(`${job.id} to run`, async () => (await on.holdfast.operator.job(job.id)).status === 'running')
    return { jobId, attempt }
  }

  async function ended(call: Call, by: Thief = thief): Promise<void> {
    by.fail(call)
    await waitFor(`${call.jobId} to be over`, async () => (await on.holdfast.operator.job(call.jobId)).status === 'failed')
  }

  const audit = async (action: string): Promise<AuditView[]> =>
    (await on.holdfast.operator.ask<{ items: AuditView[] }>('GET', `/api/v1/audit?action=${action}&limit=200`)).items

  describe("without a job that the control plane issued, a stolen certificate's calls", () => {
    it.each(Object.keys(steps))('%s: are refused for no job, for another agent’s, and for one that is over', async (name) => {
      const step = steps[name] as Step
      const theirs = await atWork(await on.holdfast.operator.startBackup('db2/tree', 'full'), victim)
      const mine = await atWork(await on.holdfast.operator.startBackup('db1/tree', 'full'))
      await ended(mine)
      await expect(step({ jobId: 'j0123456789abcde', attempt: 1 })).rejects.toEqual(refusal('not_found'))
      await expect(step(theirs)).rejects.toEqual(refusal('not_found'))
      const over = name === 'open backups' ? 'not_found' : 'attempt_fenced'
      await expect(step(mine)).rejects.toEqual(refusal(over))
      await expect(step({ jobId: newer.job_id ?? mine.jobId, attempt: 1 })).rejects.toEqual(refusal(over))
      await ended(theirs, victim)
      const told = (await audit('objects.refused')).filter((entry) => entry.subject === theirs.jobId)
      expect(told[0]).toMatchObject({ actor: `agent:${thief.identity.agentId}`, outcome: 'refused' })
    })

    it("do not end another agent's job", async () => {
      const theirs = await atWork(await on.holdfast.operator.startBackup('db2/tree', 'full'), victim)
      const mine = await atWork(await on.holdfast.operator.startBackup('db1/tree', 'full'))
      thief.fail(theirs)
      // messages of a stream are taken in order: once this one has had its effect, so would the one before it
      await ended(mine)
      expect(await on.holdfast.operator.job(theirs.jobId)).toMatchObject({ status: 'running' })
      await ended(theirs, victim)
    })
  })

  describe('during a restore that the control plane issued', () => {
    let call: Call
    beforeAll(async () => {
      call = await atWork(await on.holdfast.operator.startRestore(older.id, { target: 'db1/elsewhere' }))
    })

    it('exactly its backup can be opened and read, by its running attempt alone', async () => {
      const identity = await newAgeIdentity()
      const { backups } = await thief.objects.openBackups({ ...call, recipient: await recipientOf(identity) })
      expect(backups.map(({ backup }) => backup?.id)).toEqual([older.id])
      const opened = await openDataKeys(backups[0]?.keys[0] as Buffer, [identity])
      expect(opened).toMatchObject({ backup: { id: older.id }, keys: [{ attempt: 1 }] })
      const names = (await manifestOf(older)).facts.objects.map(({ name }) => name)
      const { requests } = await thief.objects.signGets({ ...call, objects: names.map((name) => ({ key: keysOf(older, name) })) })
      expect(requests).toHaveLength(names.length)
      const later = { ...call, attempt: call.attempt + 1 }
      await expect(thief.objects.openBackups({ ...later, recipient: await recipient() })).rejects.toEqual(
        refusal('attempt_fenced'),
      )
      await expect(thief.objects.signGets({ ...later, objects: [] })).rejects.toEqual(refusal('attempt_fenced'))
    })

    it.each([
      ["an earlier or later backup of the same source's", () => keysOf(newer)],
      ["another host's", () => keysOf(other)],
      ["another host's manifest", () => keysOf(other, 'manifest.json')],
      ['that no ledger names, in its own folder', () => keysOf(older, 'packs/1-0123456789abcdef')],
      ['reached by way of its own folder', () => `${folderOf(older)}../${newer.id}/keys/1`],
      ["the target's own", () => 'holdfast.json'],
      ['outside of the target', () => '../keyring'],
      ['an empty name', () => ''],
    ])('an object %s is refused', async (_, key) => {
      const asked = thief.objects.signGets({ ...call, objects: [{ key: key() }] })
      await expect(asked).rejects.toEqual(refusal('forbidden'))
    })

    it('an address to read is good for its own object alone, and for nothing but reading', async () => {
      const [address] = (await thief.objects.signGets({ ...call, objects: [{ key: keysOf(older) }] })).requests as [SignedRequest]
      const before = await stored()
      const body = Buffer.from('bytes')
      expect(await send(address)).toBe(200)
      for (const method of ['DELETE', 'HEAD']) expect(await send(address, undefined, { method }), method).toBe(403)
      expect(await send(address, body, { method: 'PUT' })).toBe(403)
      expect(await send(address, body, { method: 'POST' })).toBe(posted)
      const elsewhere = [keysOf(newer), keysOf(other), keysOf(older, 'manifest.json'), 'holdfast.json']
      const others = elsewhere.map((key) => address.url.replace(keysOf(older), key))
      const listing = address.url.replace(/\/[^/]+\/db1\/.*\?/, '?list-type=2&')
      for (const url of [...others, listing]) expect(await send(address, undefined, { url }), url).toBe(403)
      for (const url of altered(address.url)) expect([400, 403], url).toContain(await send(address, undefined, { url }))
      expect(await stored()).toEqual(before)
    })

    it('nothing can be written or committed', async () => {
      for (const step of ['write objects', 'commit a backup'])
        await expect(steps[step]?.(call)).rejects.toEqual(refusal('not_found'))
    })

    it("no other backup's key comes out, whatever lies in the place of its own", async () => {
      const kept = await on.store.read(keysOf(older))
      for (const swapped of [other, newer]) {
        await on.store.write(keysOf(older), await on.store.read(keysOf(swapped)))
        const asked = thief.objects.openBackups({ ...call, recipient: await recipient() })
        await expect(asked).rejects.toMatchObject({ code: 'object_damaged', message: expect.stringContaining(keysOf(older)) })
      }
      await on.store.write(keysOf(older), kept)
      await expect(thief.objects.openBackups({ ...call, recipient: await recipient() })).resolves.toBeDefined()
    })

    it('and once it is over, nothing any more', async () => {
      await ended(call)
      await expect(steps['open backups']?.(call)).rejects.toEqual(refusal('attempt_fenced'))
      const objects = [{ key: keysOf(older) }]
      await expect(thief.objects.signGets({ ...call, objects })).rejects.toEqual(refusal('attempt_fenced'))
      const opened = await audit('backup.open')
      expect(opened.find((entry) => entry.outcome === 'done' && entry.subject === older.id)).toBeDefined()
      expect(opened.find((entry) => entry.outcome !== 'done')).toBeDefined()
    })
  })

  describe('during a backup that the control plane issued', () => {
    let call: Call
    let backupId: string
    beforeAll(async () => {
      const job = await on.holdfast.operator.startBackup('db1/tree', 'full')
      call = await atWork(job)
      backupId = (await on.holdfast.operator.job(job.id)).backup_id ?? ''
    })

    const puts = (...objects: ReturnType<typeof object>[]) => thief.objects.signPuts({ ...call, objects })
    const own = (name: string) => `db1/tree/${backupId}/${name}`

    it('no data key is given and no earlier backup can be read', async () => {
      await expect(steps['open backups']?.(call)).rejects.toEqual(refusal('not_found'))
      for (const key of [keysOf(older), keysOf(newer), keysOf(newer, 'manifest.json'), own('keys/1')]) {
        await expect(thief.objects.signGets({ ...call, objects: [{ key }] })).rejects.toEqual(refusal('forbidden'))
      }
    })

    it.each([
      ['manifest.json', 'invalid_argument'],
      ['../holdfast.json', 'invalid_argument'],
      ['packs/../manifest.json', 'invalid_argument'],
      ['/etc/passwd', 'invalid_argument'],
      ['packs/1-0123456789abcdef\n', 'invalid_argument'],
      ['packs/2-0123456789abcdef', 'forbidden'],
      ['keys/7', 'forbidden'],
      ['keys/01', 'invalid_argument'],
      ['', 'invalid_argument'],
    ])('no address is given to write %j', async (name, code) => {
      await expect(puts(object(name))).rejects.toEqual(refusal(code))
    })

    it('nothing is overwritten, by a new address or by the old one', async () => {
      const name = 'packs/1-aaaaaaaaaaaaaaaa'
      const { requests } = await puts(object(name))
      const [address] = requests as [SignedRequest]
      expect(await send(address, Buffer.from('bytes'))).toBe(200)
      expect(await send(address, Buffer.from('other'))).toBe(412)
      await expect(puts(object(name, Buffer.from('other')))).rejects.toEqual(refusal('object_conflict'))
      expect((await on.store.read(own(name))).toString()).toBe('bytes')
      const [again] = (await puts(object(name))).requests
      expect(again).toMatchObject({ alreadyStored: true })
    })

    it('an address is good for its own method, object, size and content, and for its time', async () => {
      const name = 'packs/1-bbbbbbbbbbbbbbbb'
      const [address] = (await puts(object(name))).requests as [SignedRequest]
      const body = Buffer.from('bytes')
      const before = await stored()
      for (const method of ['DELETE', 'GET', 'HEAD']) expect(await send(address, undefined, { method }), method).toBe(403)
      expect(await send(address, body, { method: 'POST' })).toBe(posted)
      const elsewhere = [own('manifest.json'), keysOf(newer), own('packs/1-cccccccccccccccc'), 'holdfast.json']
      const others = elsewhere.map((key) => address.url.replace(own(name), key))
      for (const url of others) expect(await send(address, body, { url }), url).toBe(403)
      for (const url of altered(address.url)) expect([400, 403], url).toContain(await send(address, body, { url }))
      expect(await send(address, Buffer.from('BYTES'))).toBe(400)
      if (kind === 's3') {
        const other = Buffer.from('BYTES')
        // without its condition it would overwrite
        for (const without of ['if-none-match', 'x-amz-checksum-sha256'])
          expect(await send(address, body, { without }), without).toBe(403)
        const headers = { 'x-amz-checksum-sha256': sha256(other).toString('base64') }
        expect(await send(address, other, { headers })).toBe(403)
        expect(await send(address, Buffer.from('longer'), { headers: { 'content-length': '6' } })).toBe(403)
      } else {
        // the clock of a bucket is not ours: that its addresses end is in the contract of targets
        aheadMs = 15 * 60_000 + 1000
        try {
          expect(await send(address, body)).toBe(403)
        } finally {
          aheadMs = 0
        }
      }
      expect(await stored()).toEqual(before)
      expect(await send(address, body)).toBe(200)
    })

    it.each<[string, Partial<Facts>]>([
      ['of another host', { host: 'db2' }],
      ['of another source', { source: 'other' }],
      ['of another fleet', { fleet_id: 'f0123456789abcde' }],
      ['of another engine', { engine: 'sqlite' }],
      ['under a back-dated id', { id: '20200101T000000Z-0123456789' }],
      ['of another attempt', { attempt: 9 }],
      ['that only the thief can open', { recipients: ['age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg'] }],
      ['that leans on what was not named', { type: 'incremental' }],
      ['with objects that were never asked for', {}],
    ])('no backup %s is committed', async (_, change) => {
      const { facts } = await manifestOf(newer)
      const offered = { ...facts, id: backupId, attempt: call.attempt, ...change }
      const commit = thief.objects.commitBackup({ ...call, facts: signed(offered) })
      await expect(commit).rejects.toMatchObject({ code: expect.stringMatching(/^(backup_invalid|manifest_forged)$/) })
    })

    it('no earlier backup is committed again, and none that another agent signed', async () => {
      const { facts } = await manifestOf(newer)
      const commit = (bytes: Buffer) => thief.objects.commitBackup({ ...call, facts: bytes })
      await expect(commit(signed(facts))).rejects.toEqual(refusal('backup_invalid'))
      const theirs = signed({ ...facts, id: backupId, attempt: call.attempt }, victim)
      await expect(commit(theirs)).rejects.toMatchObject({
        code: 'backup_invalid',
        message: expect.stringContaining('another certificate'),
      })
      await expect(commit(Buffer.from('{"facts":'))).rejects.toEqual(refusal('backup_invalid'))
      const refused = (await audit('backup.commit')).filter((entry) => entry.outcome !== 'done')
      expect(refused[0]).toMatchObject({ actor: 'agent:db1', detail: { code: 'backup_invalid' } })
    })

    it('and what it left is no backup', async () => {
      await ended(call)
      expect(await on.store.keys(own(''))).not.toContain(own('manifest.json'))
      expect(await on.holdfast.operator.backup(backupId)).toMatchObject({ status: 'failed', valid: null })
      for (const backup of [older, newer]) expect(await on.holdfast.operator.validate(backup.id)).toMatchObject({ valid: true })
    })
  })

  describe('after the certificate was revoked', () => {
    it('every call is refused and audited', async () => {
      const call = await atWork(await on.holdfast.operator.startRestore(newer.id, { target: 'db1/elsewhere' }))
      await on.holdfast.operator.ask('POST', '/api/v1/agents/db1/revoke', { reason: 'the disk was stolen' })
      for (const step of Object.values(steps)) await expect(step(call)).rejects.toEqual(refusal('certificate_revoked'))
      const entries = await audit('backup.open')
      expect(entries[0]).toMatchObject({ outcome: 'refused', detail: { code: 'certificate_revoked' } })
    })
  })
}
