import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { sourceCommand } from '../../agent/cli/source.ts'
import { agentHome } from '../../agent/config/home.ts'
import { ESCAPING_NAMES, HOSTILE_NAMES, VERY_LONG_NAME } from '../../agent/engines/testing/names.ts'
import { ACCESS } from '../../control-plane/api/access.ts'
import { TestHoldfast } from '../harness/holdfast.ts'
import { type PostgresServer, startPostgres } from '../harness/postgres.ts'

/** Names that are commands, options, paths and formats, wherever a name can be given: nothing is executed, nothing leaves its folder. */

const NAMES = [...HOSTILE_NAMES, ...ESCAPING_NAMES, VERY_LONG_NAME]
/** Can be names of files. */
const FILES = HOSTILE_NAMES
const access = Object.fromEntries(Object.entries(ACCESS).map(([route, row]) => [route, { ...row, perMinute: 1_000_000 }]))

let holdfast: TestHoldfast
let data: string
let server: PostgresServer | null

beforeAll(async () => {
  holdfast = await TestHoldfast.start({ access })
  data = path.join(holdfast.folder.path, 'data')
  const tree = path.join(data, 'tree')
  for (const name of FILES) {
    await mkdir(path.join(tree, 'sub', name), { recursive: true })
    await writeFile(path.join(tree, name), `content of ${name}`)
    await writeFile(path.join(tree, 'sub', name, name), 'deep')
  }
  const db = new DatabaseSync(path.join(data, 'app.db'))
  for (const name of FILES)
    db.exec(`create table "${name.replaceAll('"', '""')}" (id integer); insert into "${name.replaceAll('"', '""')}" values (1)`)
  db.close()
  const sources: Record<string, Record<string, unknown>> = {
    tree: { engine: 'files', path: tree },
    app: { engine: 'sqlite', path: path.join(data, 'app.db') },
  }
  server = await startPostgres(15)
  if (server) sources.shop = await hostileDatabase(server)
  await holdfast.addAgent('db1', { sources })
})

afterEach(async () => {
  expect(await strays()).toEqual([])
})

afterAll(async () => {
  await holdfast?.[Symbol.asyncDispose]()
  await server?.stop()
})

const HOSTILE_DATABASE = "-d $(touch holdfast-pwned) dbname='postgres' ; %s"
const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`
/** PostgreSQL's names have 63 bytes. */
const TABLES = FILES.filter((name) => Buffer.byteLength(name) <= 63)

async function hostileDatabase(postgres: PostgresServer): Promise<Record<string, unknown>> {
  await postgres.sql('postgres', `create database ${quoted(HOSTILE_DATABASE)}`)
  for (const name of TABLES) {
    const table = `${quoted(name)}.${quoted(name)}`
    await postgres.sql(
      HOSTILE_DATABASE,
      `create schema ${quoted(name)}; create table ${table} (${quoted(name)} int); insert into ${table} values (1)`,
    )
  }
  const secret = path.join(holdfast.folder.path, 'shop.url')
  const url = new URL(postgres.url('postgres'))
  url.pathname = `/${encodeURIComponent(HOSTILE_DATABASE)}`
  url.password = encodeURIComponent(postgres.password)
  await writeFile(secret, url.href, { mode: 0o600 })
  return { engine: 'postgres', url_file: secret, tools: [postgres.tools] }
}

/** What only an executed name, or one that left its folder, would have made. */
async function strays(): Promise<string[]> {
  const found: string[] = []
  const places = [process.cwd(), '/tmp', '/', holdfast.folder.path, path.dirname(holdfast.folder.path)]
  for (const place of places) for (const name of await readdir(place)) if (STRAY.test(name)) found.push(path.join(place, name))
  for (const name of await readdir(holdfast.folder.path, { recursive: true }))
    if (STRAY.test(path.basename(name))) found.push(name)
  return found
}
const STRAY = /^holdfast-(pwned|escaped)$/

async function content(folder: string): Promise<Record<string, string>> {
  const files = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile())
  const rows = files.map(async (entry) => {
    const file = path.join(entry.parentPath, entry.name)
    return [path.relative(folder, file), await readFile(file, 'utf8')] as const
  })
  return Object.fromEntries(await Promise.all(rows))
}

/** Asked with each name: a clear refusal, never a failure of the control plane. */
async function refusedEach(ask: (name: string) => [method: string, route: string, body?: unknown], names = NAMES): Promise<void> {
  for (const name of names) {
    const [method, route, body] = ask(name)
    const answer = await holdfast.operator.call(method, route, body)
    const said = `${JSON.stringify(name.slice(0, 50))} ${method} ${route.slice(0, 100)}: ${JSON.stringify(answer.body)?.slice(0, 200)}`
    expect(answer.status, said).toBeGreaterThanOrEqual(400)
    expect(answer.status, said).toBeLessThan(500)
    expect(answer.body, said).toMatchObject({ status: answer.status, code: expect.any(String), hint: expect.any(String) })
  }
}

const inPath = encodeURIComponent

describe('names in requests', () => {
  it.each<[string, (name: string) => [string, string, unknown?]]>([
    ['a source', (name) => ['POST', '/api/v1/backups', { sources: [name] }]],
    ['a source of a host', (name) => ['POST', '/api/v1/backups', { sources: [`db1/${name}`] }]],
    ['a host', (name) => ['POST', '/api/v1/backups', { sources: [`${name}/tree`] }]],
    ['an agent', (name) => ['POST', '/api/v1/agents/invitations', { name, valid_seconds: 900 }]],
    ['an agent in the address', (name) => ['POST', `/api/v1/agents/${inPath(name)}/revoke`, { reason: 'x' }]],
    ['a backup in the address', (name) => ['GET', `/api/v1/backups/${inPath(name)}x`]],
    ['a job in the address', (name) => ['GET', `/api/v1/jobs/${inPath(name)}x/logs`]],
    ['a source in the address', (name) => ['POST', `/api/v1/sources/${inPath(name)}/${inPath(name)}/accept-fall`]],
    ['a filter', (name) => ['GET', `/api/v1/backups?source=${inPath(`db1/${name}`)}`]],
    ['a cursor', (name) => ['GET', `/api/v1/jobs?cursor=${inPath(`${name}.`)}`]],
  ])('%s: are refused', (_, ask) => refusedEach(ask))

  it('a target of a restore: are refused by the route, and by what is behind it', async () => {
    const { id } = await holdfast.operator.backUp('db1/app', 'full')
    await refusedEach((name) => ['POST', `/api/v1/backups/${id}/restore`, { target: `db1/${name}`, via: 'db1/app' }])
    await refusedEach((name) => ['POST', `/api/v1/backups/${id}/restore`, { target: 'db1/copy', via: `db1/${name}` }])
    const { operations, operator } = holdfast.server
    const restore = { dataset_ids: [], dataset_mapping: {}, overwrite_existing: true, verify_integrity: true, dry_run: false }
    for (const name of NAMES) {
      const target = `db1/${name}`
      await expect(operations.startRestore(operator, id, { ...restore, target, via: 'db1/app' })).rejects.toMatchObject({
        code: 'invalid_name',
      })
    }
  })

  it('a description is kept as it is', async () => {
    for (const description of FILES.filter((name) => !/[\n\r\t]/.test(name)).slice(0, 6)) {
      const { id } = await holdfast.operator.backUp('db1/app', 'full', { description })
      expect(await holdfast.operator.backup(id)).toMatchObject({ description })
    }
  })
})

describe('names of sources on a host', () => {
  it('that are no names are refused by `source add`', async () => {
    const home = path.join(holdfast.folder.path, 'new-home')
    const deps = {
      home: () => agentHome({ home, cwd: home, root: false, userHome: home }),
      print: () => undefined,
      printError: () => undefined,
      environment: {},
      stop: new AbortController().signal,
    }
    for (const name of NAMES) {
      const command = sourceCommand(deps as unknown as Parameters<typeof sourceCommand>[0]).exitOverride()
      const add = ['add', '--engine', 'files', '--path', data, '--', name]
      await expect(command.parseAsync(add, { from: 'user' }), name).rejects.toMatchObject({ code: 'invalid_name' })
    }
  })
})

describe('names in the data', () => {
  it('of files and folders come back as they were, whole and part by part', async () => {
    const { id } = await holdfast.operator.backUp('db1/tree', 'full')
    await holdfast.operator.restore(id, { target: 'db1/whole', via: 'db1/tree' })
    expect(await content(path.join(data, 'whole'))).toEqual(await content(path.join(data, 'tree')))
    await holdfast.operator.restore(id, { target: 'db1/some', via: 'db1/tree', dataset_ids: FILES })
    expect(Object.keys(await content(path.join(data, 'some'))).sort()).toEqual([...FILES].sort())
  })

  it('that are no parts of the backup end the job with a clear error', async () => {
    const { id } = await holdfast.operator.backUp('db1/tree', 'full')
    const parts = ESCAPING_NAMES.filter((name) => name !== '' && !name.includes('\0') && name !== '.')
    for (const part of parts) {
      const body = { target: 'db1/none', via: 'db1/tree', dataset_ids: [part] }
      const job = await holdfast.operator.over(await holdfast.operator.startRestore(id, body))
      expect(job, part).toMatchObject({
        status: 'failed',
        error: { code: expect.not.stringMatching(/^internal$/), message: expect.any(String) },
      })
    }
    expect(await readdir(data)).not.toContain('none')
  })

  it('of tables of SQLite come back', async () => {
    const { id } = await holdfast.operator.backUp('db1/app', 'full')
    await holdfast.operator.restore(id, { target: 'db1/copy.db', via: 'db1/app' })
    const tables = (file: string) =>
      new DatabaseSync(file, { readOnly: true }).prepare('select name from sqlite_schema order by name').all()
    expect(tables(path.join(data, 'copy.db'))).toEqual(tables(path.join(data, 'app.db')))
  })

  it('of a PostgreSQL database, its schemas, tables and columns come back, whole and part by part', async ({ skip }) => {
    if (!server) return skip('no PostgreSQL 15 on this machine')
    const { id } = await holdfast.operator.backUp('db1/shop', 'full')
    await holdfast.operator.restore(id, { target: 'db1/shop-copy', via: 'db1/shop' })
    const tables = 'select table_schema, table_name, column_name from information_schema.columns order by 1, 2, 3'
    expect(await server.sql('shop-copy', tables)).toEqual(await server.sql(HOSTILE_DATABASE, tables))
    const count = (name: string) => server?.sql('shop-copy', `select count(*)::int as n from ${quoted(name)}.${quoted(name)}`)
    for (const name of TABLES) expect(await count(name)).toEqual([{ n: 1 }])
    const parts = {
      target: 'db1/shop-parts',
      via: 'db1/shop',
      dataset_ids: ['$(touch holdfast-pwned).--version', "'; drop database postgres; --"],
    }
    const job = await holdfast.operator.over(await holdfast.operator.startRestore(id, parts))
    expect(job).toMatchObject({ status: 'failed', error: { code: expect.not.stringMatching(/^(internal|tool_failed)$/) } })
    const databases = (await server.sql<{ datname: string }>('postgres', 'select datname from pg_database')).map(
      (row) => row.datname,
    )
    expect(databases).toContain(HOSTILE_DATABASE)
    expect(databases).not.toContain('shop-parts')
  })
})
