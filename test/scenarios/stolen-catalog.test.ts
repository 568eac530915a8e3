import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newAgeIdentity } from '../../shared/age/age.ts'
import { openDataKeys } from '../../shared/repository/keys.ts'
import { Secret } from '../../shared/secret.ts'
import { TestHoldfast } from '../harness/holdfast.ts'

/**
 * Somebody has copied the control plane's data folder (catalog, sealed keys, self-backup) and the whole bucket. He has neither the key
 * service (here the keyring file) nor a recovery identity, and so opens nothing.
 */

const CONTENT = 'the salary of every employee, line by line\n'

let holdfast: TestHoldfast
/** What must stand nowhere, by what it is. */
const secrets = new Map<string, Buffer>()
let stolen: string
let keysFile: Buffer

beforeAll(async () => {
  holdfast = await TestHoldfast.start()
  const tree = path.join(holdfast.folder.path, 'data', 'tree')
  await mkdir(tree, { recursive: true })
  await writeFile(path.join(tree, 'salaries'), CONTENT.repeat(1000))
  await holdfast.addAgent('db1', { sources: { tree: { engine: 'files', path: tree } } })
  const backup = await holdfast.operator.backUp('db1/tree', 'full')
  const { key } = await holdfast.operator.ask<{ key: string }>('POST', '/api/v1/api-keys', { name: 'ci', role: 'viewer' })
  const invitation = { name: 'db2', valid_seconds: 900 }
  const { token } = await holdfast.operator.ask<{ token: string }>('POST', '/api/v1/agents/invitations', invitation)
  keysFile = await readFile(path.join(holdfast.storeFolder, 'db1', 'tree', backup.id, 'keys', '1'))
  const { fleet } = holdfast.server
  const { keys } = await openDataKeys(keysFile, [fleet.identity])
  keep('the first admin key', holdfast.operator.key)
  keep('an API key', key)
  keep('an enrolment token', token)
  keep("the fleet's identity", fleet.identity.reveal())
  keep('the recovery identity', holdfast.recovery.identity)
  keep('the key of addresses', fleet.addressKey.reveal())
  keep("the fleet's signing key", fleet.signer.export({ type: 'pkcs8', format: 'der' }).subarray(-32))
  keep('a data key', keys[0]?.dataKey.reveal() ?? '')
  keep('the content of a file', CONTENT)
  keep('the name of a file', 'salaries')
  await holdfast.stopServer()
  stolen = path.join(holdfast.folder.path, 'stolen')
  await cp(path.join(holdfast.folder.path, 'server'), path.join(stolen, 'server'), { recursive: true })
  await cp(holdfast.storeFolder, path.join(stolen, 'store'), { recursive: true })
  // in the clear by purpose, for the first administrator: a file of its own, no part of the catalog
  await rm(path.join(stolen, 'server', 'admin.key'))
})

afterAll(async () => {
  await holdfast?.startServer()
  await holdfast?.[Symbol.asyncDispose]()
})

const keep = (what: string, secret: string | Buffer) => secrets.set(what, Buffer.from(secret as string))

/** As bytes, as text of bytes, and as the catalog's own text of bytes. */
function spellings(secret: Buffer): Array<[string, Buffer]> {
  const base64 = secret.toString('base64').replace(/=+$/, '')
  return [
    ['as it is', secret],
    ['in hexadecimal', Buffer.from(secret.toString('hex'))],
    ['in base 64', Buffer.from(base64.slice(0, base64.length - 1))],
    ['reversed', Buffer.from(secret).reverse()],
  ]
}

describe('a stolen catalog and bucket', () => {
  it('hold no key, token, identity or content in any spelling, in any file', async () => {
    const found: string[] = []
    let files = 0
    for (const name of await readdir(stolen, { recursive: true })) {
      const bytes = await readFile(path.join(stolen, name)).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'EISDIR') return null
        throw error
      })
      if (!bytes) continue
      files += 1
      for (const [what, secret] of secrets) {
        expect(secret.length, what).toBeGreaterThan(7)
        for (const [how, spelt] of spellings(secret)) if (bytes.includes(spelt)) found.push(`${name}: ${what} ${how}`)
      }
    }
    expect(files).toBeGreaterThan(50)
    expect(found).toEqual([])
  })

  it('would be found by that search: the keyring and the agent have what they have', async () => {
    const agent = await readFile(path.join(holdfast.agents.get('db1')?.home ?? '', 'identity', 'identity.json'), 'utf8')
    expect(agent).toContain('AGE-SECRET-KEY-')
    expect(spellings(Buffer.from('AGE-SECRET-KEY-')).some(([, spelt]) => Buffer.from(agent).includes(spelt))).toBe(true)
  })

  it('open no fleet with another keyring, or with none', async () => {
    const home = path.join(stolen, 'server')
    const options = {
      home,
      catalog: { kind: 'embedded' as const, folder: path.join(home, 'catalog') },
      targets: { primary: { kind: 'local' as const, path: path.join(stolen, 'store') } },
      recoveryRecipients: [],
    }
    const keyring = { path: path.join(stolen, 'keyring'), shared: false }
    // a keyring of his own is made at the first try, and is there at the second
    for (let n = 0; n < 2; n++)
      await expect(holdfast.startServer({ ...options, keyring })).rejects.toMatchObject({ code: 'key_missing' })
  })

  it('open no backup with an identity that is not a recipient', async () => {
    await expect(openDataKeys(keysFile, [await newAgeIdentity()])).rejects.toMatchObject({ code: 'key_missing' })
    const agent = JSON.parse(
      await readFile(path.join(holdfast.agents.get('db1')?.home ?? '', 'identity', 'identity.json'), 'utf8'),
    ) as { age_identity: string }
    // not even the host that made it
    await expect(openDataKeys(keysFile, [new Secret(agent.age_identity)])).rejects.toMatchObject({ code: 'key_missing' })
  })
})
