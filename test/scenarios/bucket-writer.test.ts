import { createPrivateKey, generateKeyPairSync, randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { recoveryCredentials } from '../../agent/recover/credentials.ts'
import { recoverList } from '../../agent/recover/list.ts'
import { openForRecovery } from '../../agent/recover/open.ts'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { KEYS_OBJECT, recordText } from '../../control-plane/fleet/record.ts'
import { newFleetSecrets, sealKeys } from '../../control-plane/fleet/secrets.ts'
import { openKeyring } from '../../control-plane/keys/keyring/keyring.ts'
import { canonicalBytes } from '../../shared/manifest/canonical.ts'
import type { Manifest } from '../../shared/manifest/manifest.ts'
import { commitManifest, signFacts } from '../../shared/manifest/sign.ts'
import { sealDataKeys } from '../../shared/repository/keys.ts'
import { TEST_AGENT_CHAIN, TEST_AGENT_KEY } from '../../shared/repository/testing/agent-identity.ts'
import type { VerifyDetail } from '../../shared/results.ts'
import { Secret } from '../../shared/secret.ts'
import { openStore } from '../../shared/storage/registry.ts'
import { recordingLog } from '../harness/fleet.ts'
import { type OneStore, standingOnOneStore } from '../harness/raw-store.ts'
import type { StoreKind } from '../harness/two-stores.ts'

/**
 * Somebody can write whatever he likes into the bucket. He has no key of the fleet. What he does is found, named, and never restored:
 * by validate, by verify, by a restore, by `recover` and by a rebuilt catalog.
 */

/** On a bucket, where each takes longer: one of each kind. What a writer of a folder may do beside is to give a file its old times. */
const TELLING = [
  'forged with keys of his own',
  'of an earlier backup of the source',
  'keys of a backup of another source',
  'packs of a backup of another source',
]

describe.each<StoreKind>(['local', 's3'])('on a %s target', async (kind) => {
  const on = await standingOnOneStore(kind)
  if (on) attacks(on, kind)
  else it.skip('cannot be had on this machine', () => undefined)
})

function attacks(on: OneStore, kind: StoreKind): void {
  const all = kind === 'local'
  const told = <T extends readonly [string, ...unknown[]]>(cases: readonly T[]): T[] =>
    cases.filter(([name]) => all || TELLING.includes(name))

  let first: BackupView
  let second: BackupView
  let elsewhere: BackupView
  let bringBack: () => Promise<void>
  let restores = 0

  beforeAll(async () => {
    const sources: Record<string, Record<string, unknown>> = {}
    for (const name of ['tree', 'other']) {
      const folder = path.join(on.holdfast.folder.path, 'data', name)
      await mkdir(folder, { recursive: true })
      // of one length everywhere, so that what is swapped fits
      await writeFile(path.join(folder, 'file'), randomBytes(100_000))
      sources[name] = { engine: 'files', path: folder }
    }
    await on.holdfast.addAgent('db1', { sources })
    const own = path.join(on.holdfast.folder.path, 'data', 'own')
    await mkdir(own)
    await on.holdfast.addAgent('db2', { sources: { own: { engine: 'files', path: own } } })
    first = await on.holdfast.operator.backUp('db1/tree', 'full')
    await writeFile(path.join(on.holdfast.folder.path, 'data', 'tree', 'file'), randomBytes(100_000))
    second = await on.holdfast.operator.backUp('db1/tree', 'full')
    elsewhere = await on.holdfast.operator.backUp('db1/other', 'full')
    bringBack = await on.store.keep()
  })

  afterEach(() => bringBack())

  /** What was found is taken back only by a look at every byte, on another host. */
  async function sound(): Promise<void> {
    const { valid } = await on.holdfast.operator.backup(second.id)
    if (!valid) expect(await verified(second)).toMatchObject({ valid: true })
  }

  const keyOf = (backup: BackupView, name: string): string => `${backup.source}/${backup.id}/${name}`
  const read = (backup: BackupView, name: string): Promise<Buffer> => on.store.read(keyOf(backup, name))
  const manifestOf = async (backup: BackupView): Promise<Manifest> =>
    JSON.parse((await read(backup, 'manifest.json')).toString('utf8')) as Manifest

  async function packOf(backup: BackupView): Promise<string> {
    const [pack = ''] = await on.store.keys(keyOf(backup, 'packs/'))
    return pack.slice(keyOf(backup, '').length)
  }

  async function overwrite(backup: BackupView, name: string, bytes: Buffer): Promise<string> {
    await on.store.write(keyOf(backup, name), bytes)
    return keyOf(backup, name)
  }

  async function copyAll(from: string, to: string): Promise<void> {
    for (const key of await on.store.keys(from)) await on.store.write(key.replace(from, to), await on.store.read(key))
  }

  const agent = { privateKey: createPrivateKey(TEST_AGENT_KEY), chainPem: TEST_AGENT_CHAIN }

  /** A backup with other facts, signed by keys that the writer made himself. */
  async function forged(backup: BackupView): Promise<Buffer> {
    const { facts, commit } = await manifestOf(backup)
    const { privateKey } = generateKeyPairSync('ed25519')
    return commitManifest(signFacts({ ...facts, total_count: 7 }, agent), commit, privateKey).bytes
  }

  const credentials = () => recoveryCredentials(on.holdfast.recoveryFile())
  const { signal } = new AbortController()

  async function listed() {
    const store = await openStore(on.store.url)
    try {
      return await recoverList(store, { verifyingKey: credentials().verifyingKey, signal })
    } finally {
      await store.close()
    }
  }

  /** Reads the whole backup as `recover` would, and says what was wrong. */
  async function recovered(id: string): Promise<{ code: string; message: string } | null> {
    const store = await openStore(on.store.url)
    try {
      let read = 0
      const { reader } = await openForRecovery(store, id, credentials(), { signal, scratch: tmpdir() })
      for await (const { name, kind } of reader.artifacts()) {
        if (kind !== 'tree') continue
        for await (const entry of reader.openTree(name))
          for await (const extent of entry.read?.() ?? []) read += extent.bytes.length
      }
      await reader.close()
      expect(read).toBe(100_000)
      return null
    } catch (error) {
      return error as { code: string; message: string }
    } finally {
      await store.close()
    }
  }

  async function restored(backup: BackupView): Promise<{ job: JobView; exists: boolean }> {
    const name = `restored-${++restores}`
    const via = backup.source
    const job = await on.holdfast.operator.over(
      await on.holdfast.operator.startRestore(backup.id, { target: `db1/${name}`, via }),
    )
    return { job, exists: (await readdir(path.join(on.holdfast.folder.path, 'data'))).includes(name) }
  }

  async function verified(backup: BackupView): Promise<VerifyDetail> {
    return (await on.holdfast.operator.verify(backup.id)).detail as unknown as VerifyDetail
  }

  /** Every judge names the object, and nothing is restored. */
  async function foundByAll(backup: BackupView, key: string): Promise<void> {
    const { job, exists } = await restored(backup)
    expect(job).toMatchObject({
      status: 'failed',
      error: { code: expect.stringMatching(/^(object_damaged|object_missing|key_missing)$/) },
    })
    expect(job.error?.message).toContain(key)
    expect(exists).toBe(false)
    const validation = await on.holdfast.operator.validate(backup.id)
    expect(validation.valid).toBe(false)
    expect(validation.details.map(({ object }) => object)).toContain(key)
    // known to be damaged, it is not even begun
    const refused = await on.holdfast.operator.call('POST', `/api/v1/backups/${backup.id}/restore`, {})
    expect(refused).toMatchObject({ status: 422, body: { code: 'backup_invalid' } })
    const verification = await verified(backup)
    expect(verification.valid).toBe(false)
    expect(verification.errors.map(({ object }) => object)).toContain(key)
    const problem = await recovered(backup.id)
    expect(problem?.code).toMatch(/^(object_damaged|object_missing|key_missing)$/)
  }

  describe('manifests', () => {
    beforeEach(sound)

    const manifests: Array<[string, () => Promise<Buffer>]> = [
      ['forged with keys of his own', () => forged(second)],
      ['of an earlier backup of the source', () => read(first, 'manifest.json')],
      ['of a backup of another source', () => read(elsewhere, 'manifest.json')],
      [
        "with the fleet's signature and other facts",
        async () => {
          const manifest = await manifestOf(second)
          return canonicalBytes({ ...manifest, facts: { ...manifest.facts, total_count: 7 } })
        },
      ],
      [
        'that is back-dated',
        async () => {
          const manifest = await manifestOf(second)
          return canonicalBytes({ ...manifest, commit: { ...manifest.commit, committed_at: '2020-01-01T00:00:00.000Z' } })
        },
      ],
      ['that is no JSON', async () => Buffer.from('{')],
    ]
    it.each(told(manifests))('one %s is found by validate and by recover, and not what is restored', async (_, make) => {
      const key = await overwrite(second, 'manifest.json', await make())
      // the control plane goes by the manifest that it signed, and so restores the true backup
      const { job } = await restored(second)
      expect(job.status).toBe('succeeded')
      const file = path.join(on.holdfast.folder.path, 'data', `restored-${restores}`, 'file')
      expect(await readFile(file)).toEqual(await readFile(path.join(on.holdfast.folder.path, 'data', 'tree', 'file')))
      const validation = await on.holdfast.operator.validate(second.id)
      expect(validation.details).toContainEqual(expect.objectContaining({ code: 'manifest_forged', object: key }))
      const { problems, backups } = await listed()
      expect(problems).toContainEqual(expect.objectContaining({ key, code: 'manifest_forged' }))
      expect(backups.map(({ id }) => id)).not.toContain(second.id)
      expect(await recovered(second.id)).toMatchObject({ code: 'manifest_forged', message: expect.stringContaining(key) })
    })

    it('an old backup copied whole to a newer id is not believed', async () => {
      const id = '20300101T000000Z-aaaaaaaaaa'
      await copyAll(keyOf(first, ''), `db1/tree/${id}/`)
      const { problems, backups } = await listed()
      expect(problems).toContainEqual(expect.objectContaining({ key: `db1/tree/${id}/manifest.json`, code: 'manifest_forged' }))
      expect(backups.map((backup) => backup.id)).not.toContain(id)
      expect(await recovered(id)).toMatchObject({ code: 'manifest_forged' })
      expect((await on.holdfast.operator.call('GET', `/api/v1/backups/${id}`)).status).toBe(404)
    })
  })

  describe('objects', () => {
    beforeEach(sound)

    const swaps: Array<[string, (backup: BackupView) => Promise<string>, () => BackupView]> = [
      ['packs of a backup of another source', packOf, () => elsewhere],
      ['contents of a backup of the same source', async () => 'contents/1', () => first],
      ['keys of a backup of another source', async () => 'keys/1', () => elsewhere],
    ]
    it.each(told(swaps))('%s in the place of the right ones are found by all', async (_, nameIn, from) => {
      const bytes = await read(from(), await nameIn(from()))
      await foundByAll(second, await overwrite(second, await nameIn(second), bytes))
    })

    it('a newest backup that was taken away whole is missed', async () => {
      await on.store.removeAll(keyOf(second, ''))
      expect((await restored(second)).job.status).toBe('failed')
      const validation = await on.holdfast.operator.validate(second.id)
      expect(validation.valid).toBe(false)
      expect(validation.details.map(({ object }) => object)).toContain(keyOf(second, 'manifest.json'))
      expect((await verified(second)).valid).toBe(false)
      expect(await recovered(second.id)).toMatchObject({ code: 'not_found' })
    })

    it('what lies beside the backups keeps nobody from listing and restoring them', async () => {
      const stray = ['holdfast.json', 'db1/tree/stray', 'db1/tree/20300101T000000Z-bbbbbbbbbb/manifest.json/stray']
      for (const key of stray) await on.store.write(key, Buffer.from('spoilt'))
      const { problems, backups } = await listed()
      expect(problems).toContainEqual(expect.objectContaining({ key: 'holdfast.json' }))
      expect(backups.map(({ id }) => id).sort()).toEqual([first.id, second.id, elsewhere.id].sort())
      expect(await recovered(second.id)).toBeNull()
    })

    if (!all) return

    it('keys that he sealed himself, to the right recipients, are found by all', async () => {
      const { facts } = await manifestOf(second)
      const dataKey = new Secret(randomBytes(32))
      await foundByAll(
        second,
        await overwrite(second, 'keys/1', await sealDataKeys(facts, [{ attempt: 1, dataKey }], facts.recipients)),
      )
    })

    it.each(['packs', 'contents', 'index', 'keys'])('a flipped bit in %s is found by all that read it', async (part) => {
      const name = part === 'packs' ? await packOf(second) : `${part}/1`
      const bytes = await read(second, name)
      const at = bytes.length >> 1
      bytes[at] = (bytes[at] as number) ^ 4
      const key = await overwrite(second, name, bytes)
      if (part !== 'index') return foundByAll(second, key)
      // no restore needs it
      expect((await verified(second)).errors).toEqual([expect.objectContaining({ code: 'object_damaged', object: key })])
      expect((await on.holdfast.operator.validate(second.id)).details.map(({ object }) => object)).toContain(key)
    })
  })

  describe('a catalog that is rebuilt', () => {
    const home = () => path.join(on.holdfast.folder.path, 'server')

    async function rebuilt(rebuild: object): Promise<Array<Record<string, unknown>>> {
      const { log, lines } = recordingLog()
      await on.holdfast.stopServer()
      await on.holdfast.startServer({ rebuild, log })
      return lines
    }

    it('believes nothing forged, and says which backups of the self-backup are gone', async () => {
      await on.store.removeAll(keyOf(second, ''))
      await overwrite(elsewhere, 'manifest.json', await forged(elsewhere))
      const copied = `db1/tree/20300101T000000Z-aaaaaaaaaa/manifest.json`
      await on.store.write(copied, await read(first, 'manifest.json'))
      const lines = await rebuilt({})
      const said = (code: string, more: object) => expect.arrayContaining([expect.objectContaining({ code, ...more })])
      for (const object of [keyOf(elsewhere, 'manifest.json'), copied]) expect(lines).toEqual(said('manifest_forged', { object }))
      expect(lines).toEqual(said('object_missing', { object: keyOf(second, 'manifest.json') }))
      expect(lines).toEqual(said('object_missing', { object: keyOf(elsewhere, 'manifest.json') }))
      expect(lines).toEqual(said('rolled_back', { source: 'db1/tree', backup: first.id }))
      for (const gone of [second, elsewhere]) expect(await on.holdfast.operator.backup(gone.id)).toMatchObject({ valid: false })
      expect(await on.holdfast.operator.validate(first.id)).toMatchObject({ valid: true })
      await on.holdfast.connected('db1')
      // nothing can lean on what is gone
      const next = await on.holdfast.operator.backUp('db1/tree', 'incremental')
      expect(next.leans_on).not.toContain(second.id)
    })

    if (!all) return

    it("takes no keys from the bucket but those of the recovery file's fleet", async () => {
      const { fleet } = on.holdfast.server
      const { secrets, public: shown } = await newFleetSecrets(fleet.id, new Date())
      const keyring = await openKeyring(path.join(on.holdfast.folder.path, 'his-keyring'), { create: true })
      const recipients = [on.holdfast.recovery.recipient]
      const keys = await sealKeys({ secrets, public: shown, fleetId: fleet.id }, keyring, recipients, new Date())
      const record = { fleetId: fleet.id, recoveryRecipients: recipients, createdAt: new Date(), keys }
      await on.holdfast.stopServer()
      const kept = await on.store.read(KEYS_OBJECT)
      await on.store.write(KEYS_OBJECT, Buffer.from(recordText(record)))
      await rm(home(), { recursive: true })
      await rm(path.join(on.holdfast.folder.path, 'keyring'))
      const { verifyingKey, identities } = credentials()
      const rebuild = { identity: identities[0], verifyingKey }
      await expect(on.holdfast.startServer({ rebuild })).rejects.toMatchObject({
        code: 'manifest_forged',
        message: expect.stringContaining(KEYS_OBJECT),
      })
      await on.store.write(KEYS_OBJECT, kept)
      await overwrite(first, 'keys/1', Buffer.concat([await read(first, 'keys/1'), Buffer.from('x')]))
      await on.holdfast.startServer({ rebuild })
      expect(on.holdfast.server.fleet.verifyingKeyText).toBe(verifyingKey)
      expect((await on.holdfast.operator.validate(first.id)).details.map(({ object }) => object)).toContain(
        keyOf(first, 'keys/1'),
      )
    })
  })
}
