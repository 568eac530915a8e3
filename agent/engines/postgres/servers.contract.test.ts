import { createHash } from 'node:crypto'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { selfSigned } from '../../../test/harness/certificate.ts'
import { plainUser, runCommand } from '../../../test/harness/commands.ts'
import { throwAwayFolder } from '../../../test/harness/folders.ts'
import { freePort } from '../../../test/harness/ports.ts'
import { standingPostgres } from '../../../test/harness/postgres.ts'
import { startProcess } from '../../../test/harness/processes.ts'
import { backupPlan, failureOf, restorePlan, withRun } from '../testing/plans.ts'
import { addressOf } from './address.ts'
import { postgresConfig } from './config.ts'
import { discoverAt } from './discover.ts'
import { postgresEngine as engine } from './postgres.ts'
import { openSession } from './session.ts'
import { backUp, configOf, makeDatabase, restoreTo } from './testing/bench.ts'

const server = await standingPostgres(18, () => ({ settings: { wal_level: 'replica', max_wal_senders: '4' } }))

/** Kinds of servers: with TLS, standbys, those that are found. */
describe.skipIf(server === null)('postgresql 18', () => {
  if (server === null) return

  test('TLS is verified by our own sessions and by the tools when the address asks for it', async () => {
    await makeDatabase(server, 'secure', 'create table t as select 1 as i')
    const certificate = await selfSigned()
    await using folder = await throwAwayFolder({ owner: plainUser() })
    const write = async (name: string, text: string) => {
      const file = path.join(folder.path, name)
      await runCommand('tee', [file], { user: plainUser(), input: text })
      await runCommand('chmod', ['600', file])
      return file
    }
    const [cert, key] = [await write('cert.pem', certificate.cert), await write('key.pem', certificate.key.reveal())]
    const other = await write('other.pem', (await selfSigned()).cert)
    await server.sql('postgres', `alter system set ssl_cert_file = '${cert}'`)
    await server.sql('postgres', `alter system set ssl_key_file = '${key}'`)
    await server.sql('postgres', 'alter system set ssl = on')
    await server.sql('postgres', 'select pg_reload_conf()')
    const at = (query: string) => configOf(server, 'secure', { url: `${server.url('secure')}?${query}` })
    await expect.poll(() => backUp(at('sslmode=require')).then(({ fingerprint }) => fingerprint.counts['public.t'])).toBe(1)
    const encrypted = await backUp(at(`sslmode=verify-full&sslrootcert=${cert}`))
    await restoreTo(at(`sslmode=verify-full&sslrootcert=${cert}`), 'secure again', encrypted.source)
    for (const mode of ['verify-full', 'verify-ca']) {
      const failure = await failureOf(backUp(at(`sslmode=${mode}&sslrootcert=${other}`)))
      expect(failure).toMatchObject({ code: 'source_denied', hint: expect.stringContaining('certificate') })
    }
    expect((await backUp(at('sslmode=disable'))).fingerprint).toEqual(encrypted.fingerprint)
    // rows too: more of them than are held at a time, and read more slowly than they come
    const session = await openSession(await addressOf(at(`sslmode=verify-full&sslrootcert=${cert}`)))
    const encryptedHere = 'select ssl from pg_stat_ssl where pid = pg_backend_pid()'
    expect(await session.rows(encryptedHere)).toEqual([{ ssl: true }])
    const hash = createHash('md5')
    for await (const piece of session.copyOut(`copy (select md5(i::text) from generate_series(1, 100000) i) to stdout`)) {
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
      hash.update(piece)
    }
    const sent = `select md5(string_agg(md5(i::text) || E'\n', '' order by i)) as sent from generate_series(1, 100000) i`
    expect(await session.rows(sent)).toEqual([{ sent: hash.digest('hex') }])
    await session.close()
    // the standby below is made of these files
    await server.sql('postgres', 'alter system reset all')
  })

  test('a standby is backed up; nothing is restored into it', async () => {
    await makeDatabase(
      server,
      'source',
      'create table t as select generate_series(1, 1000) as i; create unlogged table u as select 1 as i',
    )
    await using folder = await throwAwayFolder({ owner: plainUser() })
    const data = path.join(folder.path, 'standby')
    const from = `host=${server.socketFolder} port=${server.port} user=postgres`
    await runCommand(path.join(server.tools, 'pg_basebackup'), ['-D', data, '-d', from, '-R', '-X', 'stream', '-c', 'fast'], {
      user: plainUser(),
      cwd: '/',
    })
    const port = await freePort()
    await using standby = await startProcess(
      path.join(server.tools, 'postgres'),
      ['-D', data, '-p', String(port), '-k', folder.path, '-c', 'listen_addresses=127.0.0.1', '-c', 'max_connections=60'],
      { as: 'plain', ready: (process) => process.output().includes('ready to accept read-only connections') },
    )
    expect(standby.ended).toBeUndefined()
    const config = configOf(server, 'source', { url: `postgres://postgres@127.0.0.1:${port}/source` })
    const { fingerprint, source, findings } = await backUp(config)
    expect(fingerprint.counts).toMatchObject({ 'public.t': 1000 })
    expect(findings.map(({ code }) => code)).toContain('unlogged_left_out')
    const about = await withRun((run) => engine.preflight(backupPlan(config), run))
    expect(about).toMatchObject([{ code: 'standby', severity: 'info' }])
    const target = await withRun((run) => engine.preflight(restorePlan(config, 'copy'), run))
    expect(target).toMatchObject([{ code: 'target_read_only', severity: 'error' }])
    await restoreTo(configOf(server, 'source'), 'copy', source)
    expect(await server.sql('copy', 'select count(*)::int as n from t')).toEqual([{ n: 1000 }])
    expect((await failureOf(restoreTo(config, 'copy too', source))).code).toBe('not_supported')
  })

  test('servers are found by socket and by port, with what would protect their databases', async () => {
    const name = 'found "me"=é'
    await makeDatabase(server, name, 'create table t as select 1 as i')
    const bySocket = await withRun((run) => discoverAt([server.socketFolder], [server.port], run))
    expect(bySocket.map(({ title }) => title)).toContain(`postgresql 18 on port ${server.port}: ${name}`)
    expect(new Set(bySocket.map(({ title }) => title)).size).toBe(bySocket.length)
    const source = bySocket.find(({ facts }) => facts.database === name)
    expect(source).toMatchObject({ engine: 'postgres', findings: [], size_bytes: expect.any(Number) })
    // what is printed works as it stands
    const [, , option, url] = source?.add ?? []
    expect(option).toBe('--url')
    const { fingerprint } = await backUp(postgresConfig.parse({ url, tools: [server.tools] }))
    expect(fingerprint.counts['public.t']).toBe(1)
    const byPort = await withRun((run) => discoverAt([], [server.port, 1], run))
    expect(byPort).toMatchObject([
      { title: `postgresql on port ${server.port}`, findings: [{ code: 'source_denied', severity: 'warning' }] },
    ])
  })
})
