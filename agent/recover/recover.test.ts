import { createHash } from 'node:crypto'
import { lstat, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newAgeIdentity, recipientOf } from '../../shared/age/age.ts'
import { writeFleetObject } from '../../shared/manifest/fleet-object.ts'
import { manifestKey, objectKey } from '../../shared/manifest/layout.ts'
import type { Manifest } from '../../shared/manifest/manifest.ts'
import { rewrapDataKeys } from '../../shared/repository/keys.ts'
import { seededBytes } from '../../shared/repository/testing/content.ts'
import { TestFleet } from '../../shared/repository/testing/fleet.ts'
import { temporaryFolder } from '../../shared/repository/testing/temporary-folders.ts'
import { openStore } from '../../shared/storage/registry.ts'
import { recoverCommand } from '../cli/recover.ts'
import { engineFor } from '../engines/registry.ts'
import { testRun } from '../engines/testing/run.ts'
import { recoverList } from './list.ts'
import { openForRecovery } from './open.ts'

let fleet: TestFleet
let store: string
let identity: string
let source: string
let full: Manifest
let next: Manifest
const folders: string[] = []

function folder(): string {
  const made = temporaryFolder()
  folders.push(made)
  return made
}

async function backupFolder(day: number, base?: Manifest): Promise<Manifest> {
  const engine = engineFor('files')
  const run = await testRun()
  try {
    const plan = {
      action: 'backup',
      config: engine.config.parse({ path: source }),
      type: base ? 'incremental' : 'full',
      parts: [],
    } as const
    return await fleet.backup(day, (sink) => engine.backup(plan, sink, run), { base })
  } finally {
    await run.dispose()
  }
}

/** What the control plane would have left in the bucket, and nothing more. */
async function fillStore(): Promise<string> {
  const made = path.join(folder(), 'store')
  const target = await openStore(made, { create: true })
  for (const [key, bytes] of fleet.objects.objects) await target.put(key, bytes)
  await target.put('holdfast.json', writeFleetObject({ fleetId: fleet.fleetId, verifyingKey: fleet.verifyingKey }))
  await target.close()
  return made
}

/** What is typed on standard input. */
let input = ''

async function recover(...args: string[]): Promise<{ out: string; err: string; code?: string; hint?: string }> {
  const lines = { out: [] as string[], err: [] as string[] }
  const deps = {
    print: (line: string) => void lines.out.push(line),
    printError: (line: string) => void lines.err.push(line),
    readStdin: async () => input,
    environment: {},
    stop: new AbortController().signal,
  }
  const command = recoverCommand(deps).exitOverride()
  let code: string | undefined
  let hint: string | undefined
  try {
    await command.parseAsync(args, { from: 'user' })
  } catch (error) {
    code = (error as { code?: string }).code
    hint = (error as { hint?: string }).hint
    lines.err.push(String(error))
  }
  return { out: lines.out.join('\n'), err: lines.err.join('\n'), code, hint }
}

async function identityFile(lines: string[]): Promise<string> {
  const file = path.join(folder(), 'recovery.key')
  await writeFile(file, `${lines.join('\n')}\n`)
  return file
}

beforeAll(async () => {
  fleet = await TestFleet.create()
  source = path.join(folder(), 'source')
  await mkdir(path.join(source, 'deep/er'), { recursive: true })
  for (let n = 0; n < 20; n++) await writeFile(path.join(source, 'deep', `file ${n}`), seededBytes(n, 10_000 * n))
  await symlink('../somewhere', path.join(source, 'link'))
  full = await backupFolder(0)
  await writeFile(path.join(source, 'deep/er/later'), 'later')
  next = await backupFolder(1, full)
  store = await fillStore()
  identity = await identityFile(['# a recovery key', `# verifying key: ${fleet.verifyingKey}`, fleet.identity.reveal()])
})

afterAll(async () => {
  for (const made of folders) await rm(made, { recursive: true, force: true })
})

async function listing(root: string): Promise<string[]> {
  const rows: string[] = []
  for (const name of (await readdir(root, { recursive: true })).sort()) {
    const file = path.join(root, name)
    const stat = await lstat(file)
    const content = stat.isFile()
      ? createHash('sha256')
          .update(await readFile(file))
          .digest('hex')
      : ''
    rows.push(`${name} ${stat.mode} ${stat.isFile() ? stat.size : ''} ${stat.mtimeMs} ${content}`)
  }
  return rows
}

describe('recover, with the store and an identity file alone', () => {
  test('list shows every backup, and that its origin is verified', async () => {
    const { out, err, code } = await recover('list', '--store', store, '--identity', identity, '--format', 'json')
    expect([code, err]).toEqual([undefined, ''])
    const { backups, problems } = JSON.parse(out)
    expect(problems).toEqual([])
    expect(backups).toMatchObject([
      { id: full.facts.id, origin: 'verified', state: 'present', type: 'full', leansOn: [], opens: true },
      { id: next.facts.id, origin: 'verified', state: 'present', type: 'incremental', leansOn: [full.facts.id], opens: true },
    ])
    const table = await recover('list', '--store', store, '--identity', identity)
    expect([table.code, table.err]).toEqual([undefined, ''])
    expect(table.out).toMatch(new RegExp(`${next.facts.id}.* yes `))
    // a manifest has it rounded, the catalog exactly
    expect(table.out).toContain(' read (about) ')
  })

  test('restore by the ending of an id gives back the tree, and says that counts agree', async () => {
    const to = path.join(folder(), 'restored')
    const id = next.facts.id.slice(-6)
    const { out, err, code } = await recover('restore', id, '--store', store, '--identity', identity, '--to', to)
    expect([code, err]).toEqual([undefined, ''])
    expect(out).toContain('counts agree')
    expect(await listing(to)).toEqual(await listing(source))
    const again = await recover('restore', id, '--store', store, '--identity', identity, '--to', to)
    expect(again.code).toBe('source_exists')
  })

  test('without the verifying key the origin is not verified, and that is said', async () => {
    const bare = await identityFile([fleet.identity.reveal()])
    const { out, err } = await recover('list', '--store', store, '--identity', bare)
    expect(out).toContain('not verified')
    expect(err).toContain('origin not verified')
    const given = await recover('list', '--store', store, '--identity', bare, '--verifying-key', fleet.verifyingKey)
    expect([given.code, given.err]).toEqual([undefined, ''])
    expect(given.out).toContain('verified')
    expect(given.out).not.toContain('not verified')
  })

  test('an id that fits several backups, or none, is refused', async () => {
    const year = next.facts.id.slice(0, 4)
    expect((await recover('restore', year, '--store', store, '--identity', identity, '--to', '/nowhere')).code).toBe('ambiguous')
    // no id has this letter
    expect((await recover('restore', 'uuu', '--store', store, '--identity', identity, '--to', '/nowhere')).code).toBe('not_found')
  })

  test('an identity that is no recipient opens nothing, and the recipients are named', async () => {
    const stranger = await identityFile([(await newAgeIdentity()).reveal(), `# verifying key: ${fleet.verifyingKey}`])
    const { code } = await recover(
      'restore',
      next.facts.id,
      '--store',
      store,
      '--identity',
      stranger,
      '--to',
      path.join(folder(), 'x'),
    )
    expect(code).toBe('key_missing')
    const empty = await identityFile(['# nothing'])
    expect((await recover('list', '--store', store, '--identity', empty)).code).toBe('invalid_argument')
  })

  test('list of a source of which there is nothing is an error that names those of which there is', async () => {
    const list = (source: string) => recover('list', '--store', store, '--identity', identity, '--source', source)
    const name = `${full.facts.host}/${full.facts.source}`
    expect(await list(name)).toMatchObject({ code: undefined, err: '' })
    expect(await list('other/app')).toMatchObject({ out: '', code: 'not_found', hint: `It has backups of ${name}.` })
  })

  test('list says which backups the identity opens: by their keys, and by those of what they lean on', async () => {
    const other = await newAgeIdentity()
    const stranger = await identityFile([other.reveal(), `# verifying key: ${fleet.verifyingKey}`])
    const copy = await fillStore()
    const list = async () => {
      const table = await recover('list', '--store', copy, '--identity', stranger)
      const json = await recover('list', '--store', copy, '--identity', stranger, '--format', 'json')
      expect([json.code, json.err]).toEqual([undefined, table.err])
      const rows = table.out.split('\n').filter((line) => line.includes(full.facts.host))
      const opens = JSON.parse(json.out).backups.map((backup: { opens: boolean }) => backup.opens)
      expect(rows.map((row) => / yes /.test(row))).toEqual(opens)
      return { opens, err: table.err }
    }
    expect(await list()).toEqual({ opens: [false, false], err: expect.stringContaining('opens none of the 2 backups listed') })
    const target = await openStore(copy)
    const seal = async (facts: { host: string; source: string; id: string }) => {
      const file = await target.get(objectKey(facts, 'keys/1'))
      await target.put(objectKey(facts, 'keys/2'), await rewrapDataKeys(file, [fleet.identity], [await recipientOf(other)]))
    }
    await seal(next.facts)
    expect(await list()).toMatchObject({ opens: [false, false] })
    await seal(full.facts)
    expect(await list()).toEqual({ opens: [true, true], err: '' })
    await target.remove(objectKey(next.facts, 'keys/2'))
    expect(await list()).toEqual({ opens: [true, false], err: expect.stringContaining('opens 1 of the 2 backups listed') })
    await target.close()
  })

  test('a rotated key opens the backup for the new recipient; without keys it reads as deleted', async () => {
    const copy = await fillStore()
    const target = await openStore(copy)
    const newcomer = await newAgeIdentity()
    const recipients = [await recipientOf(newcomer)]
    for (const { facts } of [full, next]) {
      const file = await target.get(objectKey(facts, 'keys/1'))
      await target.put(objectKey(facts, 'keys/2'), await rewrapDataKeys(file, [fleet.identity], recipients))
      await target.remove(objectKey(facts, 'keys/1'))
    }
    const file = await identityFile([newcomer.reveal(), `# verifying key: ${fleet.verifyingKey}`])
    const to = path.join(folder(), 'restored')
    expect(await recover('restore', next.facts.id, '--store', copy, '--identity', file, '--to', to)).toMatchObject({
      code: undefined,
    })
    expect(await listing(to)).toEqual(await listing(source))
    await target.remove(objectKey(full.facts, 'keys/2'))
    const { out } = await recover('list', '--store', copy, '--identity', file, '--format', 'json')
    expect(JSON.parse(out).backups[0]).toMatchObject({ id: full.facts.id, state: 'deleted' })
    const gone = await recover('restore', full.facts.id, '--store', copy, '--identity', file, '--to', path.join(folder(), 'y'))
    expect(gone.code).toBe('key_missing')
    await target.close()
  })

  test('a manifest that was changed, or lies in the place of another, is named and never restored', async () => {
    const copy = await fillStore()
    const target = await openStore(copy)
    const key = manifestKey(next.facts)
    const bytes = await target.get(key)
    for (const forged of [
      Buffer.from(bytes.toString().replace('"type":"incremental"', '"type":"full"')),
      await target.get(manifestKey(full.facts)),
    ]) {
      await target.remove(key)
      await target.put(key, forged)
      const { out, code } = await recover('list', '--store', copy, '--identity', identity, '--format', 'json')
      expect(code).toBe('manifest_forged')
      expect(JSON.parse(out).problems).toContainEqual(expect.objectContaining({ key, code: 'manifest_forged' }))
      const to = path.join(folder(), 'z')
      expect((await recover('restore', next.facts.id, '--store', copy, '--identity', identity, '--to', to)).code).toBe(
        'manifest_forged',
      )
    }
    await target.close()
  })

  test('latest:host/name is the newest that was not deleted', async () => {
    const { host, source: name } = next.facts
    const latest = (from: string, what: string) => {
      const to = path.join(folder(), 'latest')
      return recover('restore', what, '--store', from, '--identity', identity, '--to', to)
    }
    expect((await latest(store, `latest:${host}/${name}`)).out).toContain(next.facts.id)
    const copy = await fillStore()
    const target = await openStore(copy)
    await target.remove(objectKey(next.facts, 'keys/1'))
    await target.close()
    expect((await latest(copy, `latest:${host}/${name}`)).out).toContain(full.facts.id)
    expect((await latest(store, `latest:${host}/other`)).code).toBe('not_found')
    expect((await latest(store, 'latest:')).code).toBe('not_found')
  })

  test('--raw writes the streams as they are, under harmless names', async () => {
    const other = await TestFleet.create()
    const bytes = seededBytes(4, 70_000)
    const chunking = { kind: 'fixed', bytes: 8192 } as const
    const odd = '../../etc/$(x)\n'
    const manifest = await other.backup(0, (sink) => sink.stream({ name: odd, chunking }, [bytes] as never), {
      engine: 'postgres',
    })
    Object.assign(fleet, { objects: other.objects })
    const copy = await fillStore()
    const file = await identityFile([other.identity.reveal()])
    const to = path.join(folder(), 'raw')
    const args = ['restore', manifest.facts.id, '--store', copy, '--identity', file, '--to', to]
    expect(await recover(...args)).toMatchObject({ code: 'invalid_argument', err: expect.stringContaining('into a folder') })
    expect((await recover(...args, '--raw', '--part', 'x')).code).toBe('invalid_argument')
    expect((await recover(...args, '--raw')).code).toBeUndefined()
    expect(await readdir(to)).toEqual(['0001-.._.._etc_x_', 'artifacts.json'])
    expect((await readFile(path.join(to, '0001-.._.._etc_x_'))).equals(bytes)).toBe(true)
    expect((await recover(...args, '--raw')).code).toBe('already_exists')
  })

  test('a database goes where --url says; a password in it, another engine and two places at once are refused', async () => {
    const other = await TestFleet.create()
    const manifest = await other.backup(
      0,
      (sink) => sink.stream({ name: 'x', chunking: { kind: 'fixed', bytes: 8192 } }, [] as never),
      {
        engine: 'postgres',
      },
    )
    Object.assign(fleet, { objects: other.objects })
    const copy = await fillStore()
    const file = await identityFile([other.identity.reveal()])
    const restore = (...more: string[]) =>
      recover('restore', manifest.facts.id, '--store', copy, '--identity', file, '--engine', 'postgres', ...more)
    // it got as far as the engine, which misses what a real backup of its own holds
    const url = 'postgres://admin@127.0.0.1:1/new'
    expect((await restore('--url', url)).code).toBe('backup_invalid')
    const secret = 'postgres://admin:hunter2@127.0.0.1:1/new'
    const refused = await restore('--url', secret)
    expect(refused).toMatchObject({ code: 'invalid_config', err: expect.stringContaining('--url-file') })
    expect(refused.err).not.toContain('hunter2')
    const secretFile = path.join(folder(), 'url')
    await writeFile(secretFile, `${secret}\n`, { mode: 0o600 })
    input = `${secret}\n`
    for (const from of [secretFile, '-']) {
      const tried = await restore('--url-file', from)
      expect(tried.code).toBe('backup_invalid')
      expect(JSON.stringify(tried)).not.toContain('hunter2')
    }
    expect(await restore()).toMatchObject({ code: 'invalid_argument', err: expect.stringContaining('where to restore') })
    expect((await restore('--url', url, '--to', folder())).code).toBe('invalid_argument')
    expect((await restore('--url', url, '--option', 'nonsense=1')).err).toContain('nonsense')
    const settings = path.join(folder(), 'settings.yaml')
    await writeFile(settings, 'url_file: /x\npassword: hunter2: x\n')
    const broken = await restore('--config', settings)
    expect(broken).toMatchObject({ code: 'invalid_config', err: expect.stringContaining('line 2, column 11') })
    expect(broken.err).not.toContain('hunter2')
    expect((await restore('--url', url, '--engine', 'sqlite')).err).toContain('is of engine postgres, not of sqlite')
  })
})

test('a folder that is no store is no store without backups', async () => {
  const { signal } = new AbortController()
  const target = await openStore(path.join(folder(), 'other'), { create: true })
  const list = () => recoverList(target, { verifyingKey: undefined, signal })
  await expect(list()).rejects.toMatchObject({ code: 'not_found' })
  await target.put('holdfast.json', writeFleetObject({ fleetId: fleet.fleetId, verifyingKey: fleet.verifyingKey }))
  expect(await list()).toEqual({ backups: [], problems: [] })
  await target.close()
})

test('a listing that lags or repeats itself changes nothing', async () => {
  const { signal } = new AbortController()
  const target = await openStore(store)
  const removed = manifestKey({ ...full.facts, id: '20250101T000000Z-0123456789' })
  const odd = new Proxy(target, {
    get: (of, property) => {
      const value: unknown = Reflect.get(of, property)
      if (property !== 'list') return typeof value === 'function' ? value.bind(of) : value
      return async function* (prefix: string) {
        if (prefix === '') yield { key: removed, size: 1000, modified: new Date(0) }
        for await (const object of of.list(prefix)) yield* [object, object]
        for await (const object of of.list(prefix)) yield object
      }
    },
  })
  const list = (from: typeof target) => recoverList(from, { verifyingKey: fleet.verifyingKey, signal })
  const right = await list(target)
  expect(right.problems).toEqual([])
  expect(right.backups.length).toBeGreaterThan(1)
  expect(await list(odd)).toEqual(right)
  const opened = await openForRecovery(
    odd,
    next.facts.id.slice(-4),
    { identities: [fleet.identity], verifyingKey: undefined },
    { signal, scratch: tmpdir() },
  )
  expect(opened.manifest).toEqual(next)
  await opened.reader.close()
  await target.close()
})
