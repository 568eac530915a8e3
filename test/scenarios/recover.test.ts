import { appendFile, mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import { keysName, objectKey } from '../../shared/manifest/layout.ts'
import { openStore } from '../../shared/storage/registry.ts'
import { runCommand, tryCommand } from '../harness/commands.ts'
import { debianProgram } from '../harness/debian.ts'
import { type PostgresServer, standingPostgres } from '../harness/postgres.ts'
import { makeOddDatabase, samePostgres } from '../harness/postgres-fixture.ts'
import { type StoreKind, standingOnTwoStores } from '../harness/two-stores.ts'

/** The control plane is gone, and the hosts with it: the store, an age identity file and the verifying key are all that is left. */

const AGENT = fileURLToPath(new URL('../../agent/main.ts', import.meta.url))
const age = await debianProgram('age', ['age'])
const server = await standingPostgres(15)
const stores = await standingOnTwoStores()
const { holdfast } = stores
const at = (...names: string[]) => path.join(holdfast.folder.path, ...names)
const KINDS: StoreKind[] = stores.s3 ? ['local', 's3'] : ['local']
const made = new Map<string, { full: BackupView; next: BackupView }>()
let database = ''

beforeAll(async () => {
  await mkdir(at('db1', 'tree', 'sub'), { recursive: true })
  for (let n = 0; n < 50; n++) await writeFile(at('db1', 'tree', n % 2 ? 'sub' : '.', `file ${n}`), `file ${n}\n`.repeat(n * 10))
  writeNotes(1, 2000)
  const engines: Record<string, object> = {
    tree: { engine: 'files', path: at('db1', 'tree') },
    notes: { engine: 'sqlite', path: at('db1', 'notes.db') },
  }
  if (server) {
    database = (await makeOddDatabase(server, { pgbenchScale: 0 })).name
    engines.app = { engine: 'postgres', ...connection(server, database) }
  }
  const sources = Object.entries(engines).flatMap(([name, source]) => KINDS.map((kind) => [`${name}-${kind}`, source]))
  await holdfast.addAgent('db1', { sources: Object.fromEntries(sources) })
  const names = sources.map(([name]) => `db1/${name}`)
  const fulls = await backUpAll(names, 'full')
  await appendFile(at('db1', 'tree', 'file 2'), 'more')
  writeNotes(2001, 2100)
  if (server) await server.sql(database, `insert into app.items (price, amount, code) values (7, 7, 'later')`)
  const nexts = await backUpAll(names, 'incremental')
  names.forEach((name, n) => {
    const [full, next] = [fulls[n], nexts[n]]
    if (full && next) made.set(name, { full, next })
  })
  await Promise.all([...holdfast.agents.values()].map((agent) => agent.stop('SIGKILL')))
  await holdfast.stopServer()
  await writeFile(at('recovery.key'), holdfast.recoveryFile(), { mode: 0o600 })
  // what age-keygen would have made of it: the identity and nothing else
  await writeFile(at('bare.key'), `${holdfast.recovery.identity}\n`, { mode: 0o600 })
})

const backUpAll = (names: string[], type: BackupView['type']): Promise<BackupView[]> =>
  Promise.all(names.map((name) => holdfast.operator.backUp(name, type)))

const connection = (on: PostgresServer, name: string) => ({ url: on.url(name), password: on.password, tools: [on.tools] })

function writeNotes(from: number, to: number): void {
  const db = new DatabaseSync(at('db1', 'notes.db'))
  db.exec('create table if not exists notes (id integer primary key, body text); begin')
  const insert = db.prepare('insert into notes values (?, ?)')
  for (let id = from; id <= to; id++) insert.run(id, `note ${id} `.repeat(20))
  db.exec('commit')
  db.close()
}

function notesOf(file: string): unknown[] {
  const db = new DatabaseSync(file, { readOnly: true })
  try {
    return [...db.prepare('pragma integrity_check').all(), ...db.prepare('select * from notes order by id').all()]
  } finally {
    db.close()
  }
}

const storeOf = (kind: StoreKind): string => (kind === 's3' ? stores.bucketUrl() : holdfast.storeFolder)

/** The program as a person runs it, in an environment that knows nothing of Holdfast. */
const recover = (kind: StoreKind, ...args: string[]) => recoverWith({}, kind, ...args)

const recoverWith = (env: Record<string, string>, kind: StoreKind, ...args: string[]) =>
  tryCommand(process.execPath, ['--no-warnings', AGENT, 'recover', ...args, '--store', storeOf(kind)], { env })

/** With the password in it: never an argument. */
const secretUrl = (on: PostgresServer, name: string) => on.url(name).replace('@', `:${encodeURIComponent(on.password)}@`)

/** How the database that is to be made is named: without a password, and from the environment. */
const WAYS: Record<StoreKind, (on: PostgresServer, name: string) => string[]> = {
  local: (on, name) => {
    const url = `postgres://postgres@/${encodeURIComponent(name)}?host=${on.socketFolder}&port=${on.port}`
    return ['--engine', 'postgres', '--url', url, '--option', `tools=${on.tools}`]
  },
  s3: (on) => ['--engine', 'postgres', '--option', `tools=${on.tools}`],
}

const idOf = (name: string, which: 'full' | 'next'): string => made.get(name)?.[which].id ?? ''

describe.each<StoreKind>(['local', 's3'])('from a %s store, with an identity file and the verifying key alone', (kind) => {
  let key: string[]
  beforeAll(() => {
    key = ['--identity', at('recovery.key')]
  })

  it.skipIf(!KINDS.includes(kind))('recover list shows every backup, each with its origin verified', async () => {
    const { status, stdout, stderr } = await recover(kind, 'list', ...key, '--format', 'json')
    expect([status, stderr]).toEqual([0, ''])
    const { backups, problems } = JSON.parse(stdout) as { backups: Record<string, unknown>[]; problems: unknown[] }
    expect(problems).toEqual([])
    const wanted = [...made].filter(([name]) => name.endsWith(kind)).flatMap(([, { full, next }]) => [full.id, next.id])
    expect(backups.map(({ id }) => id).sort()).toEqual(wanted.sort())
    for (const backup of backups) expect(backup).toMatchObject({ origin: 'verified', state: 'present' })
    const next = made.get(`db1/notes-${kind}`)?.next
    expect(backups.find(({ id }) => id === next?.id)).toMatchObject({ type: 'incremental', leansOn: next?.leans_on })
  })

  it.skipIf(!KINDS.includes(kind))('the verifying key may come beside a bare identity; another fleet’s is refused', async () => {
    const bare = ['--identity', at('bare.key')]
    const unsaid = await recover(kind, 'list', ...bare)
    expect([unsaid.status, unsaid.stdout]).toEqual([0, expect.stringContaining('not verified')])
    const mine = await recover(kind, 'list', ...bare, '--verifying-key', holdfast.server.fleet.verifyingKeyText)
    expect([mine.status, mine.stderr, mine.stdout]).toEqual([0, '', expect.not.stringContaining('not verified')])
    const other = `${holdfast.server.fleet.verifyingKeyText.slice(0, -1)}${holdfast.server.fleet.verifyingKeyText.endsWith('a') ? 'b' : 'a'}`
    expect((await recover(kind, 'list', ...bare, '--verifying-key', other)).status).not.toBe(0)
  })

  it.skipIf(!KINDS.includes(kind))('recover restore brings back a tree, a file and a database', async () => {
    const tree = at(`recovered-${kind}`)
    expect(await recover(kind, 'restore', idOf(`db1/tree-${kind}`, 'next'), ...key, '--to', tree)).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('counts agree'),
    })
    expect(await runCommand('diff', ['-r', '--no-dereference', at('db1', 'tree'), tree])).toBe('')
    const notes = at(`notes-${kind}`)
    expect(await recover(kind, 'restore', idOf(`db1/notes-${kind}`, 'next'), ...key, '--to', notes)).toMatchObject({ status: 0 })
    expect(notesOf(path.join(notes, `notes-${kind}.db`))).toEqual(notesOf(at('db1', 'notes.db')))
    if (!server) return
    const name = `recovered ${kind}`
    const args = ['restore', 'latest:db1/app-'.concat(kind), ...key, ...WAYS[kind](server, name)]
    const config = at(`pg-${kind}.yaml`)
    await writeFile(config, stringify(connection(server, 'postgres')), { mode: 0o600 })
    const done = await recoverWith({ HOLDFAST_SOURCE_URL: secretUrl(server, name) }, kind, ...args)
    expect(done).toMatchObject({ status: 0, stdout: expect.stringContaining('counts agree') })
    expect(done.stdout).toContain(idOf(`db1/app-${kind}`, 'next'))
    const again = await recover(kind, 'restore', idOf(`db1/app-${kind}`, 'full'), ...key, '--config', config, '--name', name)
    expect(again).toMatchObject({ status: 1, stderr: expect.stringContaining(`database "${name}" exists`) })
    expect(await samePostgres({ server, database }, { server, database: name })).toBeNull()
  })

  it.skipIf(!KINDS.includes(kind) || age === null)('the age program opens keys/1 of a backup', async () => {
    const store = await openStore(storeOf(kind))
    const [name, backups] = [...made].find(([one]) => one.endsWith(kind)) ?? []
    const place = { host: 'db1', source: name?.split('/')[1] ?? '', id: backups?.full.id ?? '' }
    const file = at(`keys-${kind}.age`)
    await writeFile(file, await store.get(objectKey(place, keysName(1))))
    await store.close()
    const opened = JSON.parse(await runCommand(age ?? '', ['--decrypt', '--identity', at('recovery.key'), file]))
    expect(JSON.stringify(opened)).toContain(place.id)
  })
})
