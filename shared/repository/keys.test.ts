import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { runCommand } from '../../test/harness/commands.ts'
import { debianProgram } from '../../test/harness/debian.ts'
import { newAgeIdentity, recipientOf } from '../age/age.ts'
import { Secret } from '../secret.ts'
import { openDataKeys, rewrapDataKeys, sealDataKeys } from './keys.ts'

const backup = { host: 'db1', source: 'app', id: '20260101T020000Z-k7q2m4x9tb' }
const rows = [
  { attempt: 1, dataKey: new Secret(randomBytes(32)) },
  { attempt: 3, dataKey: new Secret(randomBytes(32)) },
]
const ageProgram = await debianProgram('age', ['age'])

async function person() {
  const identity = await newAgeIdentity()
  return { identity, recipient: await recipientOf(identity) }
}

describe('keys/N', () => {
  test('it opens for each recipient, and for nobody else', async () => {
    const [fleet, offline, stranger] = [await person(), await person(), await person()]
    const file = await sealDataKeys(backup, rows, [fleet.recipient, offline.recipient])
    for (const { identity } of [fleet, offline]) {
      const opened = await openDataKeys(file, [stranger.identity, identity])
      expect(opened.backup).toEqual(backup)
      expect(opened.keys.map(({ dataKey }) => dataKey.reveal())).toEqual(rows.map(({ dataKey }) => dataKey.reveal()))
    }
    await expect(openDataKeys(file, [stranger.identity])).rejects.toMatchObject({ code: 'key_missing' })
  })

  test('a rotation gives the same keys to other recipients', async () => {
    const [before, after] = [await person(), await person()]
    const file = await rewrapDataKeys(await sealDataKeys(backup, rows, [before.recipient]), [before.identity], [after.recipient])
    expect((await openDataKeys(file, [after.identity])).keys).toHaveLength(2)
    await expect(openDataKeys(file, [before.identity])).rejects.toMatchObject({ code: 'key_missing' })
  })

  test('damage and foreign content are object_damaged, naming the object', async () => {
    const { identity, recipient } = await person()
    const file = await sealDataKeys(backup, rows, [recipient])
    file[file.length - 1] = (file.at(-1) as number) ^ 1
    await expect(openDataKeys(file, [identity], 'h/s/i/keys/1')).rejects.toMatchObject({
      code: 'object_damaged',
      context: { key: 'h/s/i/keys/1' },
    })
    await expect(openDataKeys(Buffer.from('no age file'), [identity])).rejects.toMatchObject({ code: 'object_damaged' })
    await expect(openDataKeys(Buffer.alloc(2 ** 21), [identity])).rejects.toMatchObject({ code: 'object_damaged' })
  })

  test('nothing is sealed to nobody, or to what is no recipient', async () => {
    await expect(sealDataKeys(backup, rows, [])).rejects.toMatchObject({ code: 'key_missing' })
    await expect(sealDataKeys(backup, rows, ['age1nonsense'])).rejects.toMatchObject({ code: 'invalid_argument' })
  })

  test.skipIf(!ageProgram)('the age program opens keys/1', async () => {
    const { identity, recipient } = await person()
    const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-age-'))
    try {
      await writeFile(path.join(folder, 'keys'), await sealDataKeys(backup, rows, [recipient]))
      await writeFile(path.join(folder, 'identity'), `${identity.reveal()}\n`, { mode: 0o600 })
      const args = ['--decrypt', '-i', path.join(folder, 'identity'), path.join(folder, 'keys')]
      const stdout = await runCommand(ageProgram as string, args)
      const expected = rows.map(({ attempt, dataKey }) => ({ attempt, key: dataKey.reveal().toString('hex') }))
      expect(JSON.parse(stdout)).toEqual({ format: 1, ...backup, keys: expected })
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })
})
