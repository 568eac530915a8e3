import { readFile, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { newAgeIdentity, parseIdentityFile, recipientOf } from '../../shared/age/age.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import { parseVerifyingKey } from '../../shared/manifest/verifying-key.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { openTestCatalog, type TestCatalog } from '../../test/harness/catalogs.ts'
import { type ThrowAwayFolder, throwAwayFolder } from '../../test/harness/folders.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { openKeyring } from '../keys/keyring/keyring.ts'
import { openFleet, readRecord } from './authority.ts'
import { KEYS_OBJECT, parseRecord, readPublishedRecord } from './record.ts'
import { newRecoveryIdentity, recoveryFile } from './recovery-identity.ts'

let under: TestCatalog
let folder: ThrowAwayFolder
const clock = new FakeClock('2026-03-01T12:00:00Z')
const recovery = await newAgeIdentity()
const recoveryRecipients = [await recipientOf(recovery)]
const keyring = () => openKeyring(path.join(folder.path, 'keyring'), { create: true })
const options = () => ({ dataFolder: folder.path, recoveryRecipients, clock })

beforeEach(async () => {
  under = await openTestCatalog()
  folder = await throwAwayFolder()
})
afterEach(async () => {
  await under.dispose()
  await folder.remove()
})

describe('authority, signing key and fleet identity are sealed to the key service and to the recovery recipients', () => {
  test('a second start opens the same fleet', async () => {
    const first = await openFleet(under.catalog, await keyring(), options())
    const second = await openFleet(under.catalog, await keyring(), options())
    expect(second.id).toBe(first.id)
    expect(second.pin).toBe(first.pin)
    expect(second.verifyingKeyText).toBe(first.verifyingKeyText)
    expect(second.identity.reveal()).toBe(first.identity.reveal())
    expect(second.addressKey.reveal()).toEqual(first.addressKey.reveal())
    expect(second.recipient).toBe(await recipientOf(first.identity))
    expect(parseVerifyingKey(first.verifyingKeyText).asymmetricKeyType).toBe('ed25519')
  })

  test('the catalog alone, with the key service out of reach, opens nothing and holds no secret in clear', async () => {
    const fleet = await openFleet(under.catalog, await keyring(), options())
    await rm(path.join(folder.path, 'keyring'))
    await expect(openFleet(under.catalog, await keyring(), options())).rejects.toMatchObject({ code: 'key_missing' })
    const text = JSON.stringify(await under.catalog.db.execute(sql`select * from fleet_keys`))
    expect(text).not.toContain(fleet.identity.reveal())
    expect(text).not.toContain('PRIVATE KEY')
    expect(text).not.toContain(fleet.addressKey.reveal().toString('base64'))
  })

  test('a recovery identity opens the keys from the target when catalog and key service are both gone', async () => {
    const fleet = await openFleet(under.catalog, await keyring(), options())
    const target = memoryTarget()
    await fleet.publish(target)
    const other = await openTestCatalog()
    await using place = await throwAwayFolder()
    try {
      const record = await readPublishedRecord(target)
      if (!record) throw new Error('nothing published')
      const again = { dataFolder: place.path, recoveryRecipients, clock }
      const keys = await openKeyring(path.join(place.path, 'keyring'), { create: true })
      await expect(openFleet(other.catalog, keys, { ...again, rebuildFrom: { record } })).rejects.toMatchObject({
        code: 'key_missing',
      })
      const rebuilt = await openFleet(other.catalog, keys, { ...again, rebuildFrom: { record, identity: recovery } })
      expect(rebuilt.identity.reveal()).toBe(fleet.identity.reveal())
      expect(rebuilt.pin).toBe(fleet.pin)
      // from now on the new key service opens it
      expect((await openFleet(other.catalog, keys, again)).id).toBe(fleet.id)
    } finally {
      await other.dispose()
    }
  })

  test('a lost catalog is given its fleet back from the synced file in the data folder', async () => {
    const fleet = await openFleet(under.catalog, await keyring(), options())
    expect((await stat(path.join(folder.path, 'fleet.json'))).mode & 0o777).toBe(0o600)
    const other = await openTestCatalog()
    try {
      expect((await openFleet(other.catalog, await keyring(), options())).id).toBe(fleet.id)
      await rm(path.join(folder.path, 'fleet.json'))
      expect((await openFleet(other.catalog, await keyring(), options())).id).toBe(fleet.id)
    } finally {
      await other.dispose()
    }
  })

  test('a data folder and a catalog of two fleets do not start together', async () => {
    await openFleet(under.catalog, await keyring(), options())
    const text = await readFile(path.join(folder.path, 'fleet.json'), 'utf8')
    await writeFile(
      path.join(folder.path, 'fleet.json'),
      text.replace(/"fleet_id": "f.{15}"/, `"fleet_id": "f${'0'.repeat(15)}"`),
    )
    await expect(openFleet(under.catalog, await keyring(), options())).rejects.toMatchObject({ code: 'conflict' })
  })

  test('a public part that was changed in the catalog is not believed', async () => {
    await openFleet(under.catalog, await keyring(), options())
    const other = await recipientOf(await newAgeIdentity())
    await under.catalog.db.execute(sql`update fleet_keys set public_part = ${other} where name = 'identity'`)
    await expect(openFleet(under.catalog, await keyring(), options())).rejects.toMatchObject({ code: 'object_damaged' })
  })

  test('a recovery recipient added later opens the keys too', async () => {
    const fleet = await openFleet(under.catalog, await keyring(), options())
    const second = await newAgeIdentity()
    await fleet.addRecoveryRecipient(await recipientOf(second))
    const target = memoryTarget()
    await fleet.publish(target)
    const record = await readPublishedRecord(target)
    expect(record?.recoveryRecipients).toEqual([...recoveryRecipients, await recipientOf(second)])
    const other = await openTestCatalog()
    await using place = await throwAwayFolder()
    try {
      if (!record) throw new Error('nothing published')
      const keys = await openKeyring(path.join(place.path, 'keyring'), { create: true })
      const rebuildFrom = { record, identity: second }
      const rebuilt = await openFleet(other.catalog, keys, { dataFolder: place.path, recoveryRecipients, clock, rebuildFrom })
      expect(rebuilt.id).toBe(fleet.id)
    } finally {
      await other.dispose()
    }
  })
})

test('a key of the key service that was changed is taken up at the next start', async () => {
  const fleet = await openFleet(under.catalog, await keyring(), options())
  const before = JSON.stringify((await readRecord(under.catalog))?.keys)
  await (await keyring()).rotateKey()
  const again = await openFleet(under.catalog, await keyring(), options())
  expect(again.identity.reveal()).toBe(fleet.identity.reveal())
  const keys = (await readRecord(under.catalog))?.keys ?? []
  expect(JSON.stringify(keys)).not.toBe(before)
  const current = (await (await keyring()).protect('x', fleet.addressKey)).key
  expect(keys.map((key) => key.protectedPart.key)).toEqual(keys.map(() => current))
})

test('a recovery recipient that one control plane adds is known to the other, which puts no older one into a target', async () => {
  const [one, two] = [
    await openFleet(under.catalog, await keyring(), options()),
    await openFleet(under.catalog, await keyring(), options()),
  ]
  const added = await recipientOf(await newAgeIdentity())
  await one.addRecoveryRecipient(added)
  const target = memoryTarget()
  await two.publish(target)
  expect((await readPublishedRecord(target))?.recoveryRecipients).toEqual([...recoveryRecipients, added])
  expect(two.recoveryRecipients).toEqual([...recoveryRecipients, added])
})

test('a new fleet without a recovery recipient is refused', async () => {
  await expect(openFleet(under.catalog, await keyring(), { ...options(), recoveryRecipients: [] })).rejects.toMatchObject({
    code: 'invalid_config',
  })
})

test('of two control planes that start at once on a new catalog, both have the same fleet', async () => {
  const keys = await keyring()
  const [one, two] = await Promise.all([openFleet(under.catalog, keys, options()), openFleet(under.catalog, keys, options())])
  expect(one.id).toBe(two.id)
})

test("with a shared catalog a keyring on one node's disk is refused unless it is said to be shared", async () => {
  const shared: Catalog = { ...under.catalog, kind: 'postgres' }
  await expect(openFleet(shared, await keyring(), options())).rejects.toMatchObject({ code: 'invalid_config' })
  const given = await openKeyring(path.join(folder.path, 'keyring'), { create: false, local: false })
  expect((await openFleet(shared, given, options())).id).toMatch(/^f/)
})

test('a target of another fleet is refused', async () => {
  const target = memoryTarget()
  await target.put('holdfast.json', Buffer.from('{"format":1,"fleet_id":"f000000000000000","verifying_key":"hfv1"}'))
  const fleet = await openFleet(under.catalog, await keyring(), options())
  await expect(fleet.publish(target)).rejects.toMatchObject({ code: 'conflict' })
  expect(await target.head(KEYS_OBJECT)).toBeNull()
})

test('sealed keys of hostile shape are refused', () => {
  for (const text of ['', '{}', '[]', 'null', `{"format":1,"x":"${'y'.repeat(2_000_000)}"}`]) {
    expect(() => parseRecord(text, 'there')).toThrow('cannot be read')
  }
})

test('a recovery identity file carries the verifying key in its comments', async () => {
  const fleet = await openFleet(under.catalog, await keyring(), options())
  const made = await newRecoveryIdentity(fleet, clock.now())
  const text = made.file.reveal()
  expect(text).toContain(`# verifying key: ${fleet.verifyingKeyText}\n`)
  expect(await recipientOf(parseIdentityFile(text)[0] ?? recovery)).toBe(made.recipient)
  const first = recoveryFile({ identity: recovery, recipient: recoveryRecipients[0] ?? '', fleet, now: clock.now() })
  expect(parseIdentityFile(first.reveal())[0]?.reveal()).toBe(recovery.reveal())
  expect(String(made.file)).toBe('***')
})

/** The three calls that publishing needs; whole targets are proven elsewhere. */
function memoryTarget(): StorageTarget {
  const objects = new Map<string, Buffer>()
  const target: Partial<StorageTarget> = {
    name: 'memory',
    head: async (key) => (objects.has(key) ? { size: objects.get(key)?.length ?? 0, sha256: null, modified: clock.now() } : null),
    get: async (key) => objects.get(key) ?? Buffer.alloc(0),
    put: async (key, body, put) => {
      if (objects.has(key) && !put?.overwrite) throw new Error(`${key} is there`)
      objects.set(key, body)
    },
  }
  return target as StorageTarget
}
