import { expect, test } from 'vitest'
import { HoldfastError } from '../../../shared/errors.ts'
import { Secret } from '../../../shared/secret.ts'
import type { Run } from '../engine.ts'
import { withRun } from '../testing/plans.ts'
import type { Address } from './address.ts'
import { postgresConfig } from './config.ts'
import { matchingTools, toolEnvironment, toolFinding } from './tools.ts'

const config = postgresConfig.parse({ url: 'postgres://h/d', tools: ['/opt/a', '/opt/b'] })

/** A host where these folders hold tools of these versions. */
async function on<T>(folders: Record<string, string>, work: (run: Run) => Promise<T>): Promise<T> {
  return withRun((run) =>
    work({
      ...run,
      tools: {
        ...run.tools,
        find: async (name, first = []) => {
          const folder = [...first, '/usr/bin'].find((candidate) => candidate in folders)
          if (folder === undefined) throw new HoldfastError('tool_missing', `${name} was not found`)
          return `${folder}/${name}`
        },
        run: async (tool) => ({
          stdout: Buffer.from(`pg_dump (PostgreSQL) ${folders[tool.slice(0, tool.lastIndexOf('/'))]} (Debian)\n`),
          stderr: '',
        }),
      },
    }),
  )
}

test('tools are those of the server: own folders first, then the usual ones, then PATH', async () => {
  const usual = '/usr/lib/postgresql/16/bin'
  const folders = { '/opt/a': '15.19', '/opt/b': '16.15', [usual]: '16.14', '/usr/bin': '16.1' }
  expect(await on(folders, (run) => matchingTools(config, 16, run))).toMatchObject({ version: '16.15', psql: '/opt/b/psql' })
  const { '/opt/b': _, ...less } = folders
  expect(await on(less, (run) => matchingTools(config, 16, run))).toMatchObject({ restore: `${usual}/pg_restore` })
  expect(await on({ '/usr/bin': '16.1' }, (run) => matchingTools(config, 16, run))).toMatchObject({ dump: '/usr/bin/pg_dump' })
})

test('tools of another major version are refused, naming the one to install', async () => {
  for (const folders of [{}, { '/opt/a': '15.19', '/usr/bin': '18.6' }] as Record<string, string>[]) {
    await expect(on(folders, (run) => matchingTools(config, 16, run))).rejects.toMatchObject({
      code: 'tool_version',
      hint: expect.stringContaining('version 16'),
    })
  }
})

test('tools that a hostile server can attack are a finding', () => {
  const tools = (version: string) => ({ version, dump: '', dumpall: '', restore: '', psql: '' })
  expect(toolFinding(tools('15.17'))).toMatchObject({
    code: 'tool_outdated',
    severity: 'warning',
    hint: expect.stringContaining('15.18'),
  })
  for (const version of ['15.18', '18.6', '19.0']) expect(toolFinding(tools(version))).toBeNull()
})

test('everything that tells where the database is goes by the environment, the names of it as they are', () => {
  const address: Address = {
    host: '/run/postgresql',
    port: 5433,
    user: '-u',
    database: 'x',
    password: new Secret('p w'),
    tls: { mode: 'prefer' },
  }
  expect(toolEnvironment(address, '--dbname=evil host=h\n', 'holdfast x')).toMatchObject({
    PGDATABASE: '--dbname=evil host=h\n',
    PGUSER: '-u',
    PGPASSWORD: 'p w',
    PGAPPNAME: 'holdfast x',
    PGPASSFILE: '/dev/null',
  })
})
