import type { BackupSink } from '../../../shared/artifacts.ts'
import type { Finding, Fingerprint } from '../../../shared/results.ts'
import type { BackupPlan, Run } from '../engine.ts'
import { addressOf } from './address.ts'
import { backUpDefinitions, backUpGlobals, backUpLargeObjects, once } from './archives.ts'
import { artifact } from './artifacts.ts'
import type { PostgresConfig } from './config.ts'
import { countLargeObjects, fingerprintOf } from './count.ts'
import { readDatabaseFacts } from './database-facts.ts'
import { backUpDependencies } from './dependencies.ts'
import { backUpRows } from './rows.ts'
import { readSequences } from './sequences.ts'
import { type Server, serverOf } from './server.ts'
import { type Session, withSessions } from './session.ts'
import { takeSnapshot } from './snapshot.ts'
import { chooseTables } from './tables.ts'
import { matchingTools, toolEnvironment } from './tools.ts'

/**
 * One moment of one database. All that is read joins the snapshot of the first session, which stays open, and holds its locks,
 * to the end. What is written into the sink, in artifacts.ts.
 */
export async function backup(plan: BackupPlan<PostgresConfig>, sink: BackupSink, run: Run): Promise<Fingerprint> {
  run.signal.throwIfAborted()
  const { config } = plan
  const address = await addressOf(config)
  return withSessions(address, run, async (sessions) => {
    const session = await sessions.open()
    const server = await serverOf(session)
    const tools = await matchingTools(config, server.major, run)
    const env = toolEnvironment(address, address.database, sessions.applicationName)
    run.progress({ phase: 'snapshot' })
    const snapshot = await takeSnapshot(session, run)
    for (const finding of await leftOutByNature(session, server)) run.finding(finding)

    const include = plan.parts.length > 0 ? plan.parts : config.include
    const withRows = snapshot.tables.filter((table) => table.holdsRows)
    const chosen = chooseTables(snapshot.tables, include, config.exclude).filter((table) => table.holdsRows)
    const kept = new Set(chosen)
    const facts = await readDatabaseFacts(session, server, {
      chosen: include.length > 0 ? [...include] : null,
      left_out: include.length > 0 ? [] : withRows.filter((table) => !kept.has(table)).map((table) => table.oid),
    })
    await sink.stream(artifact('database'), once(Buffer.from(JSON.stringify(facts))))

    run.progress({ phase: 'definitions' })
    const archive = { tools, major: server.major, snapshotId: snapshot.id, env }
    await backUpDefinitions('pre-data', archive, sink, run)
    await backUpDependencies(session, sink)

    const context = { config, snapshot, session, tools, env, encoding: facts.encoding }
    const rows = await backUpRows(chosen, context, sink, run)

    run.progress({ phase: 'sequences and large objects' })
    const sequences = await backUpSequences(session, sink)
    const largeObjects = include.length > 0 ? 0 : await countLargeObjects(session)
    if (largeObjects > 0) await backUpLargeObjects(archive, sink, run)
    await backUpGlobals(await seesPasswords(session), { tools, env, maintenance: config.maintenance_database }, sink, run)

    run.progress({ phase: 'definitions' })
    await backUpDefinitions('post-data', archive, sink, run)
    return fingerprintOf(facts, rows, include.length > 0 ? null : { sequences, largeObjects })
  })
}

/** A line of JSON each. Gives their number. */
async function backUpSequences(session: Session, sink: BackupSink): Promise<number> {
  let count = 0
  await sink.stream(
    artifact('sequences'),
    (async function* () {
      for await (const state of readSequences(session)) {
        count++
        yield Buffer.from(`${JSON.stringify(state)}\n`)
      }
    })(),
  )
  return count
}

async function seesPasswords(session: Session): Promise<boolean> {
  const [row] = await session.rows<{ sees: boolean }>(`select has_table_privilege('pg_authid', 'select') as sees`)
  return row?.sees ?? false
}

/** What pg_dump leaves out too, said aloud. */
async function leftOutByNature(session: Session, server: Server): Promise<Finding[]> {
  const [row] = await session.rows<{ unlogged: number; foreign: number }>(
    `select count(*) filter (where relpersistence = 'u' and relkind = 'r')::int as unlogged,
            count(*) filter (where relkind = 'f')::int as foreign from pg_class`,
  )
  const findings: Finding[] = []
  if (server.standby && row && row.unlogged > 0) {
    findings.push({
      code: 'unlogged_left_out',
      severity: 'warning',
      message: `${row.unlogged} unlogged tables have no rows on a standby: they are backed up empty`,
      hint: 'Back up the primary if their rows matter.',
    })
  }
  if (row && row.foreign > 0) {
    findings.push({
      code: 'foreign_left_out',
      severity: 'info',
      message: `the rows of ${row.foreign} foreign tables live on other servers and are not part of the backup`,
      hint: 'Protect those servers as sources of their own.',
    })
  }
  return findings
}
