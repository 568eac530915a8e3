import type { BackupSource } from '../../../shared/artifacts.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import { readJson } from '../../../shared/json.ts'
import type { RestorePlan, Run } from '../engine.ts'
import { type Address, addressOf } from './address.ts'
import { invalid, type Layout, readLayout } from './artifacts.ts'
import { type Closure, closureOf, relationKey, withoutTables } from './closure.ts'
import type { PostgresConfig } from './config.ts'
import { restoreRows } from './copy-in.ts'
import {
  claim,
  createDatabase,
  dropDatabase,
  dropLeftBehind,
  findDatabase,
  nameBeside,
  ownComment,
  requireDatabaseName,
  SANDBOX,
} from './databases.ts'
import { fetchDefinitions, type RestoreContext, restoreDefinitions, restoreLargeObjects } from './definitions.ts'
import { linesOf } from './lines.ts'
import { applyProperties } from './properties.ts'
import { dropRoles, listOf, prepareRoles } from './roles.ts'
import { isSandboxName } from './sandbox.ts'
import { type SequenceState, sequenceSchema, writeSequences } from './sequences.ts'
import { type Server, serverOf } from './server.ts'
import { openSession, type Session, type Sessions, withSessions } from './session.ts'
import { FILL_SETTINGS } from './settings.ts'
import { swapDatabases } from './swap.ts'
import { matchingTools, toolEnvironment } from './tools.ts'

/**
 * Fills a database beside the target, whatever the target is, and gives it the target's name when all is in it. So a
 * restore that fails or is killed leaves no database that looks whole, and what is replaced is there until the last moment.
 */
export async function restore(plan: RestorePlan<PostgresConfig>, source: BackupSource, run: Run): Promise<void> {
  run.signal.throwIfAborted()
  const { config } = plan
  const address = await addressOf(config)
  const target = requireDatabaseName(plan.targetName ?? address.database, config.maintenance_database)
  const layout = await readLayout(source)
  const chosen = await chooseParts(plan.parts, layout, source)
  await withSessions({ ...address, database: config.maintenance_database }, run, async (sessions) => {
    const session = await sessions.open()
    const server = await serverOf(session)
    refuseDowngrade(layout, server)
    if (server.standby) throw readOnly()
    for (const name of await dropLeftBehind(session))
      run.log.info({ database: name }, 'dropped what a killed restore left behind')
    if (!(await claim(session, target))) throw claimed(target)
    const existing = await findDatabase(session, target)
    refuseExisting(existing !== null, target, plan)
    const beside = nameBeside(target, 'holdfast')
    await claim(session, beside)
    const half = { database: beside, roles: [] as readonly string[] }
    try {
      const roles = await prepareRoles(session, layout.database.roles, server, config, run)
      half.roles = roles.created
      run.signal.throwIfAborted()
      const absent = await missingTablespaces(session, layout.database.tablespaces)
      if (absent.length > 0) run.finding(tablespacesLeftOut(absent))
      await createDatabase(session, beside, layout.database, server)
      await fill(
        { ...address, database: beside },
        { layout, chosen, config, server, owners: roles.owners, tablespaces: absent.length === 0 },
        source,
        sessions,
        run,
      )
      await applyProperties(session, beside, layout.database, roles.owners, run)
      const comment = isSandboxName(target) ? SANDBOX : ownComment(layout.database.comment)
      const swap = { beside, target, replaces: existing !== null, comment }
      await swapDatabases(address, config.maintenance_database, swap, run)
    } catch (error) {
      await removeHalf(address, config, half, run)
      throw error
    }
  })
}

export interface Chosen {
  readonly closure: Closure | null
  readonly rows: Layout['rows']
}

/** The parts of the plan, else those that the backup was made of, else everything. */
export async function chooseParts(parts: readonly string[], layout: Layout, source: BackupSource): Promise<Chosen> {
  const wanted = parts.length > 0 ? parts : layout.database.chosen
  if (wanted === null) return { closure: null, rows: layout.rows }
  const closure = await closureOf(wanted, source)
  const rows = layout.rows.filter((one) => closure.relations.has(relationKey(one.schema, one.table)))
  return { closure, rows }
}

/** Those of `names` that the server lacks. */
export async function missingTablespaces(session: Session, names: readonly string[]): Promise<string[]> {
  if (names.length === 0) return []
  const there = new Set(
    (await session.rows<{ name: string }>('select spcname as name from pg_tablespace')).map(({ name }) => name),
  )
  return names.filter((name) => !there.has(name))
}

/** A backup of a newer server may hold what an older one does not know. */
export function refuseDowngrade(layout: Layout, server: Server): void {
  if (layout.database.server_major <= server.major) return
  throw new HoldfastError(
    'tool_version',
    `the backup is of postgresql ${layout.database.server_version}, the server is ${server.version}: newer into older does not work`,
    { hint: `Restore into a server of version ${layout.database.server_major} or later.` },
  )
}

function refuseExisting(exists: boolean, target: string, plan: RestorePlan<PostgresConfig>): void {
  if (!exists) return
  if (!plan.overwrite) {
    throw new HoldfastError('source_exists', `database ${JSON.stringify(target)} exists`, {
      hint: 'Choose another name, or restore with --overwrite to replace it as a whole.',
    })
  }
  if (plan.parts.length === 0) return
  throw partsRefused(target)
}

export const partsRefused = (target: string) =>
  new HoldfastError('not_supported', `parts cannot replace database ${JSON.stringify(target)} as a whole`, {
    hint: 'Restore the parts into a new database, and copy from there what you need.',
  })

interface Filling {
  readonly layout: Layout
  readonly chosen: Chosen
  readonly config: PostgresConfig
  readonly server: Server
  readonly owners: boolean
  readonly tablespaces: boolean
}

/** Definitions, rows, large objects, sequences, and last what is quicker to build, or only holds, when the rows are there. */
async function fill(into: Address, what: Filling, source: BackupSource, sessions: Sessions, run: Run): Promise<void> {
  const { layout, chosen, config } = what
  const tools = await matchingTools(config, what.server.major, run)
  const env = toolEnvironment(into, into.database, sessions.applicationName, FILL_SETTINGS)
  const keep = layout.database.left_out.length > 0 ? await withoutTables(layout.database.left_out, source) : null
  const context: RestoreContext = {
    tools,
    env,
    closure: chosen.closure,
    keep,
    owners: what.owners,
    tablespaces: what.tablespaces,
    parallel: config.parallel,
  }
  const session = await sessions.open(into.database)
  if (!layout.database.has_public) await session.run('drop schema if exists public')
  run.progress({ phase: 'definitions' })
  const definitions = await fetchDefinitions(source, run)
  await restoreDefinitions('pre-data', definitions, context, run)
  const counts = await restoreRows(chosen.rows, { tools, env, parallel: config.parallel }, source, run)
  compareRows(counts, chosen.rows, source)
  run.progress({ phase: 'sequences and large objects' })
  if (layout.kinds.has('large-objects') && chosen.closure === null) await restoreLargeObjects(context, source, run)
  if (layout.kinds.has('sequences')) await restoreSequences(session, chosen.closure, source)
  run.progress({ phase: 'indexes and constraints' })
  const { dropped } = await restoreDefinitions('post-data', definitions, context, run)
  if (dropped > 0) run.finding(constraintsLeftOut(dropped))
  // its own session would keep the database from being renamed
  await session.close()
}

/** What the server took against what it gave. */
function compareRows(counts: ReadonlyMap<string, number>, rows: Layout['rows'], source: BackupSource): void {
  for (const part of new Set(rows.map((one) => one.part))) {
    const expected = source.fingerprint.counts[part]
    const found = counts.get(part) ?? 0
    if (expected === undefined || expected === found) continue
    throw new HoldfastError(
      'fingerprint_mismatch',
      `${part.slice(0, 200)} has ${found} rows after the restore instead of ${expected}`,
      {
        hint: 'Verify the backup, and restore another one if it is damaged.',
      },
    )
  }
}

async function restoreSequences(session: Session, closure: Closure | null, source: BackupSource): Promise<void> {
  let batch: SequenceState[] = []
  for await (const line of linesOf(source.openStream('sequences'))) {
    const state = readJson(line, sequenceSchema)
    if (!state.success) throw invalid('has a sequence that cannot be read', state.error)
    if (closure === null || closure.relations.has(relationKey(state.data.schema, state.data.name))) batch.push(state.data)
    if (batch.length < 1000) continue
    await writeSequences(session, batch)
    batch = []
  }
  if (batch.length > 0) await writeSequences(session, batch)
}

/** With sessions of its own: the run's may have been ended by an abort. */
async function removeHalf(
  address: Address,
  config: PostgresConfig,
  half: { database: string; roles: readonly string[] },
  run: Run,
): Promise<void> {
  try {
    const session = await openSession({ ...address, database: config.maintenance_database })
    try {
      await dropDatabase(session, half.database)
      await dropRoles(session, half.roles)
    } finally {
      await session.close()
    }
  } catch (error) {
    // the error that brought us here matters more; what is left carries a mark by which the next restore removes it
    run.log.warn({ err: error, database: half.database }, 'an unfinished database could not be dropped')
  }
}

const constraintsLeftOut = (count: number) => ({
  code: 'constraints_left_out',
  severity: 'warning' as const,
  message: `${count} foreign keys point to tables whose rows are not restored, and were left out`,
  hint: 'Fill those tables, then add the foreign keys by hand.',
})

const tablespacesLeftOut = (names: readonly string[]) => ({
  code: 'tablespaces_left_out',
  severity: 'warning' as const,
  message: `the server lacks the tablespaces ${listOf(names)}: everything was put into the default one`,
  hint: 'Create them and move the tables there, or restore again afterwards.',
})

const claimed = (target: string) =>
  new HoldfastError('conflict', `another restore into database ${JSON.stringify(target)} is running`, {
    hint: 'Wait for it to end, or cancel it, or choose another name.',
    retry: true,
  })

const readOnly = () =>
  new HoldfastError('not_supported', 'the server is a standby: nothing can be restored into it', {
    hint: 'Restore into the primary.',
  })
