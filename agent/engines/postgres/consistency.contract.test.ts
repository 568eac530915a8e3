import { beforeAll, describe, expect, test } from 'vitest'
import type { ArtifactMeta, BackupSink, StreamBytes } from '../../../shared/artifacts.ts'
import { majorsUnderTest, type PostgresServer, standingPostgres } from '../../../test/harness/postgres.ts'
import { firstDifference, makeOddDatabase, type OddDatabase, stableDump } from '../../../test/harness/postgres-fixture.ts'
import { memorySink, memorySource } from '../testing/memory.ts'
import { backupPlan, restorePlan, withRun } from '../testing/plans.ts'
import { type PostgresConfig, postgresConfig } from './config.ts'
import { postgresEngine as engine } from './postgres.ts'

/** A database with everything in it, under writers, with each major version's own tools. The judge is pg_dump. */
for (const major of majorsUnderTest()) {
  const server = await standingPostgres(major)
  describe.skipIf(server === null)(`postgresql ${major}`, () => {
    if (server === null) return
    let odd: OddDatabase
    let config: PostgresConfig
    beforeAll(async () => {
      odd = await makeOddDatabase(server)
      const raw = { url: server.url(odd.name), password: server.password, tools: [server.tools], parallel: 3 }
      config = postgresConfig.parse({ ...raw, range_bytes: 1024 * 1024 })
    })

    test('a backup under writers is the database at one moment: its restore equals pg_dump at the same snapshot', async () => {
      const { sink, backup } = memorySink()
      const writers = odd.keepWriting()
      let dump = ''
      const watched = afterFirst(sink, async () => {
        const [snapshot] = await server.snapshots()
        dump = await stableDump(server, odd.name, { snapshot, sequences: false })
        // the writers go on after the moment, so that anything read later shows
        const before = await changesOf(server, odd.name)
        await expect.poll(() => changesOf(server, odd.name)).toBeGreaterThan(before + 10)
      })
      const fingerprint = await withRun((run) => engine.backup(backupPlan(config), watched, run))
      expect(await writers.stop()).toBeGreaterThan(10)
      expect(
        [...backup.streams.keys()].filter((name) => name.startsWith('rows of public.pgbench_accounts')).length,
      ).toBeGreaterThan(5)

      await withRun(async (run) => {
        await engine.restore(restorePlan(config, "copy 'of'\nit"), memorySource(backup, fingerprint), run)
        expect(await engine.check({ config, targetName: "copy 'of'\nit" }, fingerprint, run)).toEqual([])
        expect(run.findings).toEqual([])
      })
      expect(firstDifference(await stableDump(server, "copy 'of'\nit", { sequences: false }), dump)).toBeNull()
      expect(await server.sql("copy 'of'\nit", 'select sum(balance)::int as sum from app.accounts')).toEqual([{ sum: 0 }])
      // no value that a row holds is given out again
      const [next] = await server.sql<{ ok: boolean }>(
        "copy 'of'\nit",
        `select nextval(pg_get_serial_sequence('app.items', 'id')) > max(id) as ok from app.items`,
      )
      expect(next?.ok).toBe(true)
    })

    test('a quiet database comes back whole: sequences, settings, grants, owner and comment of the database included', async () => {
      const { sink, backup } = memorySink()
      const fingerprint = await withRun((run) => engine.backup(backupPlan(config), sink, run))
      await withRun((run) => engine.restore(restorePlan(config, 'whole'), memorySource(backup, fingerprint), run))
      expect(firstDifference(await stableDump(server, 'whole'), await stableDump(server, odd.name))).toBeNull()
      expect(await propertiesOf(server, 'whole')).toEqual(await propertiesOf(server, odd.name))
      expect(await withRun((run) => engine.count({ config, targetName: 'whole' }, run))).toEqual(fingerprint)
    })
  })
}

/** Does `work` between the first artifact and the second, while the snapshot is held. */
function afterFirst(sink: BackupSink, work: () => Promise<void>): BackupSink {
  let done: Promise<void> | undefined
  return {
    tree: sink.tree,
    stream: async (meta: ArtifactMeta, bytes: StreamBytes) => {
      const digest = await sink.stream(meta, bytes)
      done ??= work()
      await done
      return digest
    },
  }
}

async function changesOf(server: PostgresServer, database: string): Promise<number> {
  const [row] = await server.sql<{ count: number }>(database, 'select count(*)::int as count from app.items')
  return row?.count ?? 0
}

function propertiesOf(server: PostgresServer, database: string) {
  return server.sql(
    database,
    `select pg_get_userbyid(datdba) as owner, shobj_description(oid, 'pg_database') as comment, datcollate, datctype,
            (select array_agg(a::text order by a::text) from unnest(datacl) a)::text as acl, pg_encoding_to_char(encoding) as encoding,
            (select json_agg(json_build_array(setrole::regrole::text, setconfig) order by setrole) from pg_db_role_setting where setdatabase = d.oid)::text as settings
     from pg_database d where datname = current_database()`,
  )
}
