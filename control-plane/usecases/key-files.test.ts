import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { newAgeIdentity, recipientOf } from '../../shared/age/age.ts'
import type { Facts } from '../../shared/manifest/manifest.ts'
import { sealDataKeys } from '../../shared/repository/keys.ts'
import { Secret } from '../../shared/secret.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import type { ControlPlane } from './control-plane.ts'
import { requireWithheld, sealedKeyFiles } from './key-files.ts'

const ref = { host: 'db1', source: 'app', id: '20261121T020000Z-k7q2m4x9tb' }
const identity = await newAgeIdentity()
const [fleet, recovery] = [await recipientOf(identity), await recipientOf(await newAgeIdentity())]
const cp = { fleet: { identity, recipient: fleet } } as unknown as ControlPlane
const sealed = (recipients: string[]) => sealDataKeys(ref, [{ attempt: 1, dataKey: new Secret(Buffer.alloc(32, 7)) }], recipients)

describe('a key file that the manifest withholds from the fleet', () => {
  test('does not open with the fleet’s identity, or the backup is not valid', async () => {
    await requireWithheld(cp, { key: 'keys/1', bytes: await sealed([recovery]) })
    await expect(requireWithheld(cp, { key: 'keys/1', bytes: await sealed([recovery, fleet]) })).rejects.toMatchObject({
      code: 'backup_invalid',
      context: { key: 'keys/1' },
    })
    await expect(requireWithheld(cp, { key: 'keys/1', bytes: Buffer.from('no age file') })).rejects.toMatchObject({
      code: 'object_damaged',
    })
  })

  test('is the one that was committed, by size and checksum, or named as damaged', async () => {
    const bytes = await sealed([recovery])
    const target = { get: async () => bytes } as unknown as StorageTarget
    const facts = (size: number, sha256: string) =>
      ({ ...ref, keys: [{ name: 'keys/1', attempt: 1 }], objects: [{ name: 'keys/1', size, sha256 }] }) as unknown as Facts
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const key = `db1/app/${ref.id}/keys/1`
    expect(await sealedKeyFiles(target, facts(bytes.length, sha256))).toEqual([{ name: 'keys/1', key, bytes }])
    const damaged = { code: 'object_damaged', context: { key } }
    await expect(sealedKeyFiles(target, facts(bytes.length, '0'.repeat(64)))).rejects.toMatchObject(damaged)
    await expect(sealedKeyFiles(target, facts(2 ** 21, sha256))).rejects.toMatchObject(damaged)
  })
})
