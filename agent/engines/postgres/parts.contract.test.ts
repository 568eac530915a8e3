import { beforeAll, describe, expect, test } from 'vitest'
import { majorsUnderTest, standingPostgres } from '../../../test/harness/postgres.ts'
import { firstDifference, makeOddDatabase, ODD_NAMES, stableDump } from '../../../test/harness/postgres-fixture.ts'
import { failureOf, restorePlan, withRun } from '../testing/plans.ts'
import type { PostgresConfig } from './config.ts'
import { postgresEngine as engine } from './postgres.ts'
import { ident } from './quote.ts'
import { type Backup, backUp, configOf, restoreTo, tableNames } from './testing/bench.ts'

/** Chosen schemas and tables, with what they need and nothing else. */
for (const major of majorsUnderTest()) {
  const server = await standingPostgres(major)
  describe.skipIf(server === null)(`postgresql ${major}`, () => {
    if (server === null) return
    let config: PostgresConfig
    let whole: Backup
    beforeAll(async () => {
      const odd = await makeOddDatabase(server, { name: 'odd', pgbenchScale: 0 })
      config = configOf(server, odd.name)
      whole = await backUp(config)
    })

    const same = async (target: string, args: readonly string[]) =>
      firstDifference(await stableDump(server, target, { args }), await stableDump(server, 'odd', { args }))

    test('a table comes with its types, functions, indexes, grants, comments, owned sequences and policies', async () => {
      const findings = await restoreTo(config, 'items', whole.source, { parts: ['app.items', 'app.audit'] })
      expect(await same('items', ['--table=app.items', '--table=app.audit'])).toBeNull()
      expect(await tableNames(server, 'items')).toEqual(['app.audit', 'app.items'])
      expect(findings).toEqual([])
      const [next] = await server.sql<{ tickets: string }>('items', `select nextval('app.tickets')::text as tickets`)
      expect(next?.tickets).not.toBe('1000')
    })

    test('a foreign key to a table that is not restored is left out, and said', async () => {
      const findings = await restoreTo(config, 'lines', whole.source, { parts: ['app.lines'] })
      expect(findings.map(({ code }) => code)).toEqual(['constraints_left_out'])
      const rows = await server.sql('lines', 'select count(*)::int as n from app.lines')
      expect(rows).toEqual(await server.sql('odd', 'select count(*)::int as n from app.lines'))
      expect(await tableNames(server, 'lines')).toEqual(['app.lines'])
    })

    test('a foreign key to a table that is restored too is there', async () => {
      expect(await restoreTo(config, 'both', whole.source, { parts: ['app.lines', 'app.items'] })).toEqual([])
      expect(await same('both', ['--table=app.items', '--table=app.lines'])).toBeNull()
    })

    test('a partitioned table comes with all of its partitions, a partition with its parents', async () => {
      await restoreTo(config, 'measures', whole.source, { parts: ['app.measures'] })
      expect(await same('measures', ['--table=app.measures*'])).toBeNull()
      await restoreTo(config, 'leaf', whole.source, { parts: ['app.measures_26_a'] })
      expect(await tableNames(server, 'leaf')).toEqual(['app.measures', 'app.measures_26', 'app.measures_26_a'])
      const rows = await server.sql('leaf', 'select count(*)::int as n from app.measures')
      expect(rows).toEqual(await server.sql('odd', 'select count(*)::int as n from app.measures_26_a'))
    })

    test('a schema comes with everything in it', async () => {
      await restoreTo(config, 'schema', whole.source, { parts: ['app'] })
      expect(await same('schema', ['--schema=app'])).toBeNull()
    })

    test('a table of any name can be chosen, and is the only one', async () => {
      for (const [index, name] of ODD_NAMES.entries()) {
        const schema = index % 3 === 0 ? `s ${name}`.slice(0, 40) : 'public'
        const target = `one ${index}`
        await restoreTo(config, target, whole.source, { parts: [`${schema}.${name}`] })
        expect(await tableNames(server, target), name).toHaveLength(1)
        const [rows] = await server.sql(target, `select count(*)::int as n from ${ident(schema)}.${ident(name)}`)
        expect(rows).toEqual({ n: 10 + index })
      }
    })

    test('rows of excluded tables are left out, their definitions stay, keys to them are left out', async () => {
      const partly = await backUp(configOf(server, 'odd', { exclude: ['app.items'] }))
      expect(Object.keys(partly.fingerprint.counts)).not.toContain('app.items')
      const findings = await restoreTo(config, 'partly', partly.source)
      expect(findings.map(({ code }) => code)).toEqual(['constraints_left_out'])
      expect(await server.sql('partly', 'select count(*)::int as n from app.items')).toEqual([{ n: 0 }])
      expect(await tableNames(server, 'partly')).toEqual(await tableNames(server, 'odd'))
      // by way of a source that leaves out nothing, or something else
      for (const via of [config, configOf(server, 'odd', { include: ['app.lines'] })]) {
        const place = { config: via, targetName: 'partly', restored: true }
        expect(await withRun((run) => engine.check(place, partly.fingerprint, run))).toEqual([])
      }
    })

    test('a backup of chosen parts stands the check of a test restore', async () => {
      const partly = await backUp(config, { parts: ['app.measures_26_a', 'app.lines'] })
      await restoreTo(config, 'chosen', partly.source)
      const place = { config, targetName: 'chosen', restored: true }
      expect(await withRun((run) => engine.check(place, partly.fingerprint, run))).toEqual([])
      await server.sql('chosen', 'create table more as select 1 as i')
      const findings = await withRun((run) => engine.check(place, partly.fingerprint, run))
      expect(findings).toMatchObject([{ code: 'part_unexpected' }])
    })

    test('parts never replace a whole database', async () => {
      const failure = await failureOf(restoreTo(config, null, whole.source, { parts: ['app.items'], overwrite: true }))
      expect(failure.code).toBe('not_supported')
      const plan = restorePlan(config, null, { parts: ['app.items'], overwrite: true })
      const findings = await withRun((run) => engine.preflight(plan, run))
      expect(findings).toContainEqual(expect.objectContaining({ code: 'not_supported', severity: 'error' }))
      expect(await tableNames(server, 'odd')).toContain('app.lines')
    })

    test('a part that the configuration names wrongly is refused: nothing is left out by a typing error', async () => {
      expect((await failureOf(backUp(configOf(server, 'odd', { exclude: ['app.itmes'] })))).code).toBe('not_found')
    })
  })
}
