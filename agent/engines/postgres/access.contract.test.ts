import { chmod, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { plainUser } from '../../../test/harness/commands.ts'
import { throwAwayFolder } from '../../../test/harness/folders.ts'
import { type PostgresServer, standingPostgres } from '../../../test/harness/postgres.ts'
import { firstDifference, stableDump } from '../../../test/harness/postgres-fixture.ts'
import { waitFor } from '../../../test/harness/wait.ts'
import { backupPlan, failureOf, restorePlan, withRun } from '../testing/plans.ts'
import { addressOf } from './address.ts'
import { postgresConfig } from './config.ts'
import { postgresEngine as engine } from './postgres.ts'
import { ident } from './quote.ts'
import { prepareRoles } from './roles.ts'
import { serverOf } from './server.ts'
import { openSession } from './session.ts'
import { backUp, configOf, databaseNames, makeDatabase, restoreTo } from './testing/bench.ts'

const [old, server] = await Promise.all([standingPostgres(15), standingPostgres(18)])
const CONTENT = `
  create table t as select i from generate_series(1, 10) i;
  create table hidden (i integer); insert into hidden values (1), (2);`

/** Who may do what, and what a person is told when something may not be done. */
describe.skipIf(old === null || server === null)('postgresql 15 and 18', () => {
  if (old === null || server === null) return
  afterEach(async () => {
    for (const one of [old, server]) await clear(one)
  })
  const role = (name: string, options = '') => server.sql('postgres', `create role ${name} login password 'agent' ${options}`)
  const as = (name: string, database = 'source', more: Record<string, unknown> = {}) =>
    configOf(server, database, { url: server.url(database, name), password: 'agent', ...more })
  const preflight = (config: ReturnType<typeof as>) => withRun((run) => engine.preflight(backupPlan(config), run))

  test('a role that may read the tables makes a whole backup; what only an administrator sees is said', async () => {
    await makeDatabase(server, 'source', CONTENT)
    await role('reader')
    await server.sql('source', 'grant select on all tables in schema public to reader')
    const { fingerprint, findings, backup } = await backUp(as('reader'))
    expect(fingerprint.counts).toMatchObject({ 'public.t': 10, 'public.hidden': 2 })
    expect(findings.map(({ code }) => code)).toEqual(['roles_without_passwords'])
    expect(backup.streams.get('globals')?.bytes.toString()).toContain('CREATE ROLE reader')
    expect(await preflight(as('reader'))).toEqual([])
  })

  test('a missing role that another restore makes at the same moment is that one’s', async () => {
    const other = server.connect('postgres')
    const session = await openSession(await addressOf(configOf(server, 'postgres')))
    try {
      const found = await serverOf(session)
      await other`begin`
      await other`create role app_owner`
      const preparing = withRun((run) =>
        prepareRoles(session, ['app_owner', 'app_reader'], found, configOf(server, 'postgres'), run),
      )
      await waitFor('the second to wait for the first', async () => {
        const [row] = await other`select count(*)::int as waiting from pg_stat_activity where wait_event_type = 'Lock'`
        return row?.waiting === 1
      })
      await other`commit`
      expect(await preparing).toEqual({ owners: true, created: ['app_reader'] })
    } finally {
      await session.close()
      await other.end()
    }
  })

  test('tables that may not be read are named before the backup, and fail it', async () => {
    await makeDatabase(server, 'source', CONTENT)
    await role('nobody_special')
    await server.sql('source', 'grant select on t to nobody_special')
    const findings = await preflight(as('nobody_special'))
    expect(findings).toMatchObject([
      { code: 'source_denied', severity: 'error', message: expect.stringContaining('public.hidden') },
    ])
    expect((await failureOf(backUp(as('nobody_special')))).code).toBe('source_denied')
  })

  test('rows that a policy would hide are an error, never missing', async () => {
    await makeDatabase(server, 'source', CONTENT)
    await role('reader')
    await server.sql('postgres', 'grant pg_read_all_data to reader')
    await server.sql('source', 'alter table hidden enable row level security; create policy one on hidden using (i = 1)')
    expect(await preflight(as('reader'))).toMatchObject([
      { code: 'source_denied', message: expect.stringContaining('row-level security') },
    ])
    expect((await failureOf(backUp(as('reader')))).code).toBe('source_denied')
    await server.sql('postgres', 'alter role reader bypassrls')
    expect((await backUp(as('reader'))).fingerprint.counts['public.hidden']).toBe(2)
  })

  test('owners that are missing are made without login, and with them ownership and grants come back', async () => {
    await makeDatabase(server, 'source', CONTENT)
    await role('app_owner', 'superuser')
    await server.sql('source', `alter table t owner to app_owner; create role "odd ""one"; grant select on hidden to "odd ""one"`)
    const { source } = await backUp(configOf(server, 'source'))
    const before = await stableDump(server, 'source')
    await clear(server)
    const findings = await restoreTo(configOf(server, 'source'), 'copy', source)
    expect(findings.map(({ code }) => code)).toEqual(['roles_created'])
    expect(firstDifference(await stableDump(server, 'copy'), before)).toBeNull()
    const roles = await server.sql(
      'postgres',
      `select rolcanlogin, rolsuper from pg_roles where rolname in ('app_owner', 'odd "one')`,
    )
    expect(roles).toEqual([
      { rolcanlogin: false, rolsuper: false },
      { rolcanlogin: false, rolsuper: false },
    ])
  })

  test('roles that a failed restore made are gone again', async () => {
    await makeDatabase(server, 'source', CONTENT)
    await role('app_owner')
    await server.sql('source', 'alter table t owner to app_owner')
    const { source, fingerprint } = await backUp(configOf(server, 'source'))
    await clear(server)
    const lying = { ...source, fingerprint: { ...fingerprint, counts: { ...fingerprint.counts, 'public.t': 11 } } }
    expect((await failureOf(restoreTo(configOf(server, 'source'), 'copy', lying))).code).toBe('fingerprint_mismatch')
    expect(await server.sql('postgres', `select from pg_roles where rolname = 'app_owner'`)).toEqual([])
    expect(await databaseNames(server)).toEqual(['postgres'])
  })

  test('missing_roles: leave-out restores everything as the agent, and says so', async () => {
    await makeDatabase(server, 'source', CONTENT)
    await role('app_owner')
    await server.sql('source', 'alter table t owner to app_owner; grant select on hidden to app_owner')
    const { source } = await backUp(configOf(server, 'source'))
    await clear(server)
    const findings = await restoreTo(configOf(server, 'source', { missing_roles: 'leave-out' }), 'copy', source)
    expect(findings.map(({ code }) => code)).toEqual(['owners_left_out'])
    expect(await server.sql('copy', `select tableowner from pg_tables where tablename = 't'`)).toEqual([
      { tableowner: 'postgres' },
    ])
  })

  test('a role with createdb restores what it may own', async () => {
    await makeDatabase(server, 'source', CONTENT)
    const { source, fingerprint } = await backUp(configOf(server, 'source'))
    await role('restorer', 'createdb')
    const findings = await restoreTo(as('restorer'), 'copy', source)
    expect(findings.map(({ code }) => code)).toContain('owners_left_out')
    expect(await withRun((run) => engine.check({ config: as('restorer'), targetName: 'copy' }, fingerprint, run))).toEqual([])
  })

  test('a backup of an older server is restored into a newer one, the other way is refused', async () => {
    await makeDatabase(old, 'source', CONTENT)
    const { source, fingerprint } = await backUp(configOf(old, 'source'))
    await restoreTo(configOf(server, 'source'), 'upgraded', source)
    expect(
      await withRun((run) => engine.check({ config: configOf(server, 'source'), targetName: 'upgraded' }, fingerprint, run)),
    ).toEqual([])
    const newer = await backUp(configOf(server, 'upgraded'))
    const failure = await failureOf(restoreTo(configOf(old, 'source'), 'downgraded', newer.source))
    expect(failure).toMatchObject({ code: 'tool_version', hint: expect.stringContaining('18') })
    const preview = withRun((run) => engine.preview(restorePlan(configOf(old, 'source'), 'downgraded'), newer.source, run))
    expect((await failureOf(preview)).code).toBe('tool_version')
    expect(await databaseNames(old)).toEqual(['postgres', 'source'])
  })

  test('a tablespace that is missing is told before and after; its tables come back in the default one', async () => {
    await using folder = await throwAwayFolder({ owner: plainUser() })
    await server.sql('postgres', `create tablespace "fast ""disk" location '${folder.path}'`)
    await makeDatabase(
      server,
      'source',
      `${CONTENT} create table placed (i integer) tablespace "fast ""disk"; insert into placed values (1)`,
    )
    const { source, fingerprint } = await backUp(configOf(server, 'source'))
    await clear(server)
    await server.sql('postgres', 'drop tablespace "fast ""disk"')
    const before = await withRun((run) => engine.preview(restorePlan(configOf(server, 'source'), 'copy'), source, run))
    expect(before.findings.map(({ code }) => code)).toEqual(['tablespaces_missing'])
    const findings = await restoreTo(configOf(server, 'source'), 'copy', source)
    expect(findings.map(({ code }) => code)).toEqual(['tablespaces_left_out'])
    expect(
      await withRun((run) => engine.check({ config: configOf(server, 'source'), targetName: 'copy' }, fingerprint, run)),
    ).toEqual([])
  })

  test('a wrong password, user or database is told apart from a server that does not answer', async () => {
    await makeDatabase(server, 'source', CONTENT)
    const code = async (more: Record<string, unknown>) => (await preflight(configOf(server, 'source', more)))[0]?.code
    expect(await code({ password: 'wrong' })).toBe('source_denied')
    expect(await code({ url: server.url('source', 'no_such') })).toBe('source_denied')
    expect(await code({ url: server.url('no such') })).toBe('source_missing')
    expect(await code({ url: 'postgres://postgres@127.0.0.1:1/source' })).toBe('source_unreachable')
  })

  test('by a Unix socket, and with the password of a password file', async () => {
    await makeDatabase(server, 'source', CONTENT)
    const socket = `postgres://postgres@/source?host=${server.socketFolder}&port=${server.port}`
    const bySocket = postgresConfig.parse({ url: socket, tools: [server.tools] })
    expect((await backUp(bySocket)).fingerprint.counts['public.t']).toBe(10)
    await using folder = await throwAwayFolder()
    const passfile = path.join(folder.path, 'pgpass')
    const escaped = server.password.replaceAll('\\', '\\\\').replaceAll(':', '\\:')
    await writeFile(passfile, `# comment\nother:*:*:*:no\n127.0.0.1:${server.port}:*:postgres:${escaped}\n`)
    await chmod(passfile, 0o600)
    const byFile = postgresConfig.parse({ url: server.url('source'), passfile, tools: [server.tools] })
    expect((await backUp(byFile)).fingerprint.counts['public.t']).toBe(10)
    const urlFile = path.join(folder.path, 'url')
    await writeFile(urlFile, `postgres://postgres:${encodeURIComponent(server.password)}@127.0.0.1:${server.port}/source\n`)
    const byUrlFile = postgresConfig.parse({ url_file: urlFile, tools: [server.tools] })
    expect((await backUp(byUrlFile)).fingerprint.counts['public.t']).toBe(10)
  })
})

async function clear(server: PostgresServer): Promise<void> {
  for (const name of await databaseNames(server)) {
    if (name !== 'postgres') await server.sql('postgres', `drop database ${ident(name)} with (force)`)
  }
  const roles = await server.sql<{ rolname: string }>(
    'postgres',
    `select rolname from pg_roles where rolname !~ '^pg_' and rolname <> 'postgres'`,
  )
  for (const { rolname } of roles) await server.sql('postgres', `drop role ${ident(rolname)}`)
}
