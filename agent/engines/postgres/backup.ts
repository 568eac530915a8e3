import type { BackupSink } from '../../../shared/artifacts.ts'
import type { Finding, Fingerprint } from '../../../shared/results.ts'
import type { BackupPlan, Run } from '../engine.ts'
import { addressOf } from './address.ts'
import { single } from './archives.ts'
import { artifact } from './artifacts.ts'
import type { PostgresConfig } from './config.ts'
import { fingerprintOf } from './count.ts'
import { readDatabaseFacts } from './database-facts.ts'
import { backUpDependencies } from './dependencies.ts'
import { takeHold } from './hold.ts'
import { backUpRows } from './rows.ts'
import { type Server, serverOf } from './server.ts'
import { type Session, withSessions } from './session.ts'
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
    const include = plan.parts.length > 0 ? plan.parts : config.include
    const whole = include.length === 0
    const hold = await takeHold({ session, server, tools, env, maintenance: config.maintenance_database, whole }, run)
    try {
      const chosen = chooseTables(hold.snapshot.tables, include, config.exclude).filter((table) => table.holdsRows)
      // before the first byte: a full chooses the unit of its chunks by it
      run.progress({ totalBytes: chosen.reduce((sum, table) => sum + table.sizeBytes, 0) })
      const kept = new Set(chosen)
      const leftOut = hold.snapshot.tables.filter((table) => table.holdsRows && !kept.has(table)).map((table) => table.oid)
      for (const finding of await leftOutByNature(session, server)) run.finding(finding)
      const facts = await readDatabaseFacts(session, server, {
        chosen: whole ? null : [...include],
        left_out: whole ? leftOut : [],
      })
      await sink.stream(artifact('database'), single(Buffer.from(JSON.stringify(facts))))
      run.progress({ phase: 'definitions' })
      await sink.stream(artifact('definitions'), hold.definitions())
      await backUpDependencies(session, sink)
      await sink.stream(artifact('sequences'), jsonLines(hold.sequences))
      if (hold.globals.finding) run.finding(hold.globals.finding)
      if (hold.globals.sql) await sink.stream(artifact('globals'), single(hold.globals.sql))
      const context = { config, snapshot: hold.snapshot, sessions, session, encoding: facts.encoding }
      const rows = await backUpRows(chosen, context, sink, run)
      run.progress({ phase: 'large objects' })
      if (hold.largeObjectsDump) await sink.stream(artifact('large-objects'), hold.largeObjectsDump.bytes)
      const others = { sequences: hold.sequences.length, largeObjects: hold.largeObjects }
      return fingerprintOf(facts, rows, whole ? others : null)
    } finally {
      // ended already unless something failed before it was read
      await hold.largeObjectsDump?.kill()
    }
  })
}

async function* jsonLines(values: readonly unknown[]): AsyncGenerator<Buffer> {
  for (const value of values) yield Buffer.from(`${JSON.stringify(value)}\n`)
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
