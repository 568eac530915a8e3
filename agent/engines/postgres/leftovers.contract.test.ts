import { access } from 'node:fs/promises'
import { afterEach, describe, expect, test } from 'vitest'
import type { BackupSink } from '../../../shared/artifacts.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import { standingPostgres, startPostgres } from '../../../test/harness/postgres.ts'
import { waitFor } from '../../../test/harness/wait.ts'
import { memorySink, memorySource } from '../testing/memory.ts'
import { backupPlan, children, failureOf, restorePlan, withRun } from '../testing/plans.ts'
import { REPLACED, SANDBOX, UNFINISHED } from './databases.ts'
import { postgresEngine as engine } from './postgres.ts'
import { ident } from './quote.ts'
import { backUp, configOf, databaseNames, makeDatabase, restoreTo } from './testing/bench.ts'

const server = await standingPostgres(15)
const CONTENT = `create table t as select i, repeat('row ', 20) as v from generate_series(1, 20000) i`

/** What is left of a run that was cancelled, or lost its server, or was killed: nothing. */
describe.skipIf(server === null)('postgresql 15', () => {
  if (server === null) return
  afterEach(async () => {
    for (const name of await databaseNames(server)) {
      if (name !== 'postgres') await server.sql('postgres', `drop database ${ident(name)} with (force)`)
    }
  })
  const ours = `select count(*)::int as n from pg_stat_activity where application_name like 'holdfast%'`
  const reason = new HoldfastError('job_cancelled', 'the job was cancelled')

  test('a backup that waits for a lock ends at once when cancelled, and stops asking for it', async () => {
    await makeDatabase(server, 'source', CONTENT)
    const other = server.connect('source')
    await other.unsafe('begin; lock table t').simple()
    const asking = `select count(*)::int as n from pg_locks where not granted`
    await withRun(async (run) => {
      const failure = failureOf(engine.backup(backupPlan(configOf(server, 'source')), memorySink().sink, run))
      await waitFor('the lock to be asked for', async () => (await server.sql<{ n: number }>('source', asking))[0]?.n === 1)
      run.abort(reason)
      expect(await failure).toBe(reason)
    })
    expect(await server.sql('source', asking)).toEqual([{ n: 0 }])
    expect(await server.sql('source', ours)).toEqual([{ n: 0 }])
    await other.end({ timeout: 1 })
  })

  test('a server that dies in the middle of a table: an error that says so, no process left', async () => {
    const mortal = await startPostgres(15)
    if (mortal === null) throw new Error('there was one a moment ago')
    const before = children()
    try {
      // more than the sockets between hold: a session that has sent everything and is then asked no more does not notice
      await makeDatabase(
        mortal,
        'source',
        `create table t as select i, repeat('row ', 250) as v from generate_series(1, 30000) i`,
      )
      const { sink } = memorySink()
      const watched: BackupSink = {
        tree: sink.tree,
        stream: async (meta, bytes) => {
          if (meta.facts?.kind === 'rows') await mortal.process.stop({ signal: 'SIGKILL' })
          return sink.stream(meta, bytes)
        },
      }
      const failure = await failureOf(withRun((run) => engine.backup(backupPlan(configOf(mortal, 'source')), watched, run)))
      expect(failure).toMatchObject({ code: 'source_unreachable', retry: true })
      expect(children()).toEqual(before.filter((pid) => pid !== mortal.process.pid))
    } finally {
      await mortal.stop()
    }
  })

  test('sessions that an administrator ends fail the backup', async () => {
    await makeDatabase(server, 'source', CONTENT)
    const { sink } = memorySink()
    const watched: BackupSink = {
      tree: sink.tree,
      stream: async (meta, bytes) => {
        if (meta.facts?.kind === 'rows') {
          await server.sql(
            'postgres',
            `select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'holdfast%'`,
          )
        }
        return sink.stream(meta, bytes)
      },
    }
    const failure = await failureOf(withRun((run) => engine.backup(backupPlan(configOf(server, 'source')), watched, run)))
    expect(failure).toMatchObject({ code: 'source_unreachable' })
  })

  test('what a killed restore left is dropped by the next one; what a living one works on is not', async () => {
    await makeDatabase(server, 'source', CONTENT)
    const { source } = await backUp(configOf(server, 'source'))
    for (const [name, comment] of [
      ['dead_holdfast_0000000001', UNFINISHED],
      ['dead_before_0000000002', REPLACED],
      ['holdfast_test_0000000003', SANDBOX],
      ['alive_holdfast_0000000004', UNFINISHED],
      ['holdfast_test_0000000005', SANDBOX],
      ['users_own', 'holdfast is mentioned here'],
      // a person has given it its name back
      ['wanted_back', REPLACED],
    ] as const) {
      await server.sql('postgres', `create database ${name}`)
      await server.sql('postgres', `comment on database ${name} is '${comment}'`)
    }
    const holder = server.connect('postgres')
    await holder`select pg_advisory_lock(hashtextextended('alive_holdfast_0000000004', 7440)),
                        pg_advisory_lock(hashtextextended('sandbox holdfast_test_0000000005', 7440))`
    await restoreTo(configOf(server, 'source'), 'target', source)
    const kept = [
      'alive_holdfast_0000000004',
      'holdfast_test_0000000005',
      'postgres',
      'source',
      'target',
      'users_own',
      'wanted_back',
    ]
    expect(await databaseNames(server)).toEqual(kept)
    await holder.end()
  })

  test('a place is claimed on the whole server: from another maintenance database it is not written, and what lives there not dropped', async () => {
    await makeDatabase(server, 'source', CONTENT)
    const { source } = await backUp(configOf(server, 'source'))
    for (const name of ['upkeep', 'target_holdfast_0000000004']) await server.sql('postgres', `create database ${name}`)
    await server.sql('postgres', `comment on database target_holdfast_0000000004 is '${UNFINISHED}'`)
    const holder = server.connect('upkeep')
    await holder`select pg_advisory_lock(hashtextextended('target_holdfast_0000000004', 7440)),
                        pg_advisory_lock(hashtextextended('target', 7440))`
    expect(await failureOf(restoreTo(configOf(server, 'source'), 'target', source))).toMatchObject({
      code: 'conflict',
      retry: true,
    })
    await holder`select pg_advisory_unlock(hashtextextended('target', 7440))`
    await restoreTo(configOf(server, 'source'), 'target', source)
    expect(await databaseNames(server)).toEqual(['postgres', 'source', 'target', 'target_holdfast_0000000004', 'upkeep'])
    await holder.end()
  })

  test('a backup of what a killed restore left brings no mark along by which the next restore would drop it', async () => {
    await makeDatabase(server, 'source', CONTENT)
    await server.sql('postgres', `comment on database source is '${REPLACED}'`)
    const { source } = await backUp(configOf(server, 'source'))
    await restoreTo(configOf(server, 'source'), 'copy_before_0000000001', source)
    await restoreTo(configOf(server, 'source'), 'other', source)
    expect(await databaseNames(server)).toEqual(['copy_before_0000000001', 'other', 'postgres', 'source'])
  })

  test('of two restores into one place at a time, one is refused', async () => {
    await makeDatabase(server, 'source', CONTENT)
    const { backup, fingerprint } = await backUp(configOf(server, 'source'))
    const results = await Promise.allSettled(
      [1, 2].map(() => restoreTo(configOf(server, 'source'), 'target', memorySource(backup, fingerprint))),
    )
    const codes = results.map((result) => (result.status === 'fulfilled' ? 'done' : result.reason.code)).sort()
    expect(codes).toEqual(['conflict', 'done'])
    expect(await databaseNames(server)).toEqual(['postgres', 'source', 'target'])
  })

  test('a database is replaced under sessions that come back as fast as they can', async () => {
    await makeDatabase(server, 'source', CONTENT)
    const { source } = await backUp(configOf(server, 'source'))
    await server.sql('source', 'delete from t')
    let going = true
    let connections = 0
    const users = Array.from({ length: 4 }, async () => {
      while (going) {
        const sql = server.connect('source')
        await sql`select pg_sleep(0.01)`.then(
          () => connections++,
          () => undefined,
        )
        await sql.end({ timeout: 1 })
      }
    })
    await restoreTo(configOf(server, 'source'), null, source, { overwrite: true })
    going = false
    await Promise.all(users)
    expect(connections).toBeGreaterThan(0)
    expect(await server.sql('source', 'select count(*)::int as n from t')).toEqual([{ n: 20000 }])
    expect(await databaseNames(server)).toEqual(['postgres', 'source'])
  })

  test('a backup whose rows do not add up is never given the name of the target', async () => {
    await makeDatabase(server, 'source', CONTENT)
    const { backup, fingerprint } = await backUp(configOf(server, 'source'))
    const lying = { ...fingerprint, counts: { ...fingerprint.counts, 'public.t': 20001 } }
    const failure = await failureOf(restoreTo(configOf(server, 'source'), 'target', memorySource(backup, lying)))
    expect(failure.code).toBe('fingerprint_mismatch')
    expect(await databaseNames(server)).toEqual(['postgres', 'source'])
  })

  const commands = 'x\n\\.\n\\! touch holdfast-pwned\ndrop table b;\n'

  test.each([
    ['alone', 1, commands],
    ['among other small tables', 9, commands],
    ['more than psql reads', 2, commands + 'x\n'.repeat(200_000)],
  ])('rows of a hostile backup that look like commands of psql are data: %s', async (_, tables, rows) => {
    const names = Array.from({ length: tables }, (_, n) => (n === 0 ? 'a' : `b${n}`))
    await makeDatabase(server, 'source', names.map((name) => `create table ${name} as select 'x' as v;`).join(''))
    const { backup, fingerprint } = await backUp(configOf(server, 'source'))
    const stored = backup.streams.get('rows of public.a')
    if (!stored) throw new Error('no rows')
    // the end of the data for psql, then commands: everything after it has to be refused or ignored, not run
    backup.streams.set('rows of public.a', { ...stored, bytes: Buffer.from(rows) })
    await withRun(async (run) => {
      const restoring = engine.restore(restorePlan(configOf(server, 'source'), 'target'), memorySource(backup, fingerprint), run)
      const outcome = await restoring.then(
        () => 'restored',
        (error: HoldfastError) => error.code,
      )
      expect(tables === 1 ? ['restored', 'tool_failed'] : ['fingerprint_mismatch', 'backup_invalid', 'tool_failed']).toContain(
        outcome,
      )
      await expect(access(`${run.scratch}/holdfast-pwned`)).rejects.toThrow()
      await expect(access('/holdfast-pwned')).rejects.toThrow()
      if (outcome === 'restored') expect(await server.sql('target', 'select count(*)::int as n from a')).toEqual([{ n: 1 }])
    })
  })

  test('rows that a table does not take fail the restore with its name, and every table is counted by itself', async () => {
    const make = Array.from({ length: 30 }, (_, n) => `create table t${n} as select generate_series(1, ${n}) as i;`)
    await makeDatabase(server, 'source', `${make.join('')} create table "last ""one" as select 1 as i`)
    const { backup, fingerprint, source } = await backUp(configOf(server, 'source'))
    await restoreTo(configOf(server, 'source'), 'copy', source)
    expect(
      await withRun((run) => engine.check({ config: configOf(server, 'source'), targetName: 'copy' }, fingerprint, run)),
    ).toEqual([])
    const stored = backup.streams.get('rows of public."last ""one"')
    if (!stored) throw new Error('no rows')
    backup.streams.set('rows of public."last ""one"', { ...stored, bytes: Buffer.from('secret-word\n') })
    const failure = await failureOf(restoreTo(configOf(server, 'source'), 'target', memorySource(backup, fingerprint)))
    expect(failure).toMatchObject({ code: 'tool_failed', context: { part: 'public."last ""one"' } })
    expect(failure.message).toContain('rows of public."last ""one": psql ended with status')
    expect(await databaseNames(server)).toEqual(['copy', 'postgres', 'source'])
  })
})
