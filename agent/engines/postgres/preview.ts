import type { BackupSource } from '../../../shared/artifacts.ts'
import type { Finding, RestorePreview } from '../../../shared/results.ts'
import type { RestorePlan, Run } from '../engine.ts'
import { addressOf } from './address.ts'
import { type Layout, readLayout } from './artifacts.ts'
import type { PostgresConfig } from './config.ts'
import { findDatabase, requireDatabaseName } from './databases.ts'
import { chooseParts, missingTablespaces, refuseDowngrade } from './restore.ts'
import { listOf, lookAtRoles } from './roles.ts'
import { serverOf } from './server.ts'
import { type Session, withSessions } from './session.ts'

/** What `restore` would do, from the same backup and server. */
export async function preview(plan: RestorePlan<PostgresConfig>, source: BackupSource, run: Run): Promise<RestorePreview> {
  const { config } = plan
  const address = await addressOf(config)
  const target = requireDatabaseName(plan.targetName ?? address.database, config.maintenance_database)
  const layout = await readLayout(source)
  const { closure, rows } = await chooseParts(plan.parts, layout, source)
  return withSessions({ ...address, database: config.maintenance_database }, run, async (sessions) => {
    const session = await sessions.open()
    refuseDowngrade(layout, await serverOf(session))
    const existing = await findDatabase(session, target)
    const tables = [...new Set(rows.map((one) => one.part))]
    const shown = closure === null ? wholeText(tables.length) : listOf(tables)
    return {
      creates: [`database ${JSON.stringify(target)} with ${shown}`],
      replaces: existing ? [{ what: `database ${JSON.stringify(target)}`, size_bytes: existing.sizeBytes ?? undefined }] : [],
      bytes: closure === null ? layout.bytes : rows.reduce((sum, one) => sum + one.bytes, 0),
      findings: await lacking(session, layout),
    }
  })
}

/** Roles and extensions that the backup needs and the server lacks. */
async function lacking(session: Session, layout: Layout): Promise<Finding[]> {
  const findings: Finding[] = []
  const { missing } = await lookAtRoles(session, layout.database.roles)
  if (missing.length > 0) {
    findings.push({
      code: 'roles_missing',
      severity: 'warning',
      message: `the server has no roles ${listOf(missing)}`,
      hint: 'Create them first if they need their passwords; otherwise they are made without login, or left out.',
    })
  }
  const tablespaces = await missingTablespaces(session, layout.database.tablespaces)
  if (tablespaces.length > 0) {
    findings.push({
      code: 'tablespaces_missing',
      severity: 'warning',
      message: `the server has no tablespaces ${listOf(tablespaces)}: everything will be put into the default one`,
      hint: 'Create them first if the tables have to be spread over disks.',
    })
  }
  const available = new Set(
    (await session.rows<{ name: string }>('select name from pg_available_extensions')).map(({ name }) => name),
  )
  const absent = layout.database.extensions.filter(({ name }) => !available.has(name))
  if (absent.length > 0) {
    findings.push({
      code: 'extensions_missing',
      severity: 'error',
      message: `the server lacks the extensions ${listOf(absent.map(({ name }) => name))}`,
      hint: 'Install the packages of these extensions on the server.',
    })
  }
  return findings
}

const wholeText = (tables: number): string =>
  tables === 0 ? 'no table' : tables === 1 ? 'its one table' : `all ${tables} tables`
