import { chmod, mkdtemp, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect, test } from 'vitest'
import { Secret } from '../../../shared/secret.ts'
import { openKeyring } from './keyring.ts'

const folder = () => mkdtemp(path.join(tmpdir(), 'hf-keyring-'))

test('the key file has mode 0600 and opens again with the same keys', async () => {
  const file = path.join(await folder(), 'keyring')
  const value = await (await openKeyring(file, { create: true })).protect('a', new Secret(Buffer.from('s')))
  expect((await stat(file)).mode & 0o777).toBe(0o600)
  const again = await openKeyring(file, { create: true })
  expect((await again.reveal('a', value)).reveal().toString()).toBe('s')
})

test('two that start at once on one folder end with the same key', async () => {
  const file = path.join(await folder(), 'keyring')
  const [one, two] = await Promise.all([openKeyring(file, { create: true }), openKeyring(file, { create: true })])
  const value = await one.protect('a', new Secret(Buffer.from('s')))
  expect((await two.reveal('a', value)).reveal().toString()).toBe('s')
})

test('a missing keyring is not made anew unless asked, and one that others may read is refused', async () => {
  const file = path.join(await folder(), 'keyring')
  await expect(openKeyring(file, { create: false })).rejects.toMatchObject({ code: 'key_missing' })
  await openKeyring(file, { create: true })
  await chmod(file, 0o640)
  await expect(openKeyring(file, { create: false })).rejects.toMatchObject({ code: 'invalid_config' })
  await chmod(file, 0o600)
  await writeFile(file, '{}')
  await expect(openKeyring(file, { create: false })).rejects.toMatchObject({ code: 'key_missing' })
})
