import { HoldfastError } from '../../../shared/errors.ts'
import type { Finding } from '../../../shared/results.ts'
import type { BackupPlan, RestorePlan, Run } from '../engine.ts'
import { type Address, addressOf, isLocal } from './address.ts'
import type { PostgresConfig } from './config.ts'
import { findDatabase, requireDatabaseName } from './databases.ts'
import { partsRefused } from './restore.ts'
import { listOf } from './roles.ts'
import { type Server, serverOf } from './server.ts'
import { type Session, withSessions } from './session.ts'
import { chooseTables, listTables } from './tables.ts'
import { matchingTools, toolFinding } from './tools.ts'

/** Everything that can be known before any work is done. An error of the server's is a finding too, so that all are seen at once. */
export async function preflight(plan: BackupPlan<PostgresConfig> | RestorePlan<PostgresConfig>, run: Run): Promise<Finding[]> {
  const findings: Finding[] = []
  const gather = async (work: () => Promise<Finding[]>) => {
    try {
      findings.push(...(await work()))
    } catch (error) {
      run.signal.throwIfAborted()
      if (!(error instanceof HoldfastError)) throw error
      findings.push(asFinding(error))
    }
  }
  await gather(async () => {
    const address = await addressOf(plan.config)
    const database = plan.action === 'backup' ? address.database : plan.config.maintenance_database
    await withSessions({ ...address, database }, run, async (sessions) => {
      const session = await sessions.open()
      const server = await serverOf(session)
      await gather(async () =>
        [tlsFinding(address), toolFinding(await matchingTools(plan.config, server.major, run))].filter((f) => f !== null),
      )
      await gather(() =>
        plan.action === 'backup' ? lookAtSource(session, server, plan) : lookAtTarget(session, server, address, plan),
      )
    })
    return []
  })
  return findings
}

async function lookAtSource(session: Session, server: Server, plan: BackupPlan<PostgresConfig>): Promise<Finding[]> {
  const findings: Finding[] = []
  const include = plan.parts.length > 0 ? plan.parts : plan.config.include
  const tables = chooseTables(await listTables(session), include, plan.config.exclude)
  const denied = await session.rows<{ part: string }>(
    `select format('%I.%I', n.nspname, c.relname) as part from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p', 'S') and c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
       and not (has_schema_privilege(n.oid, 'usage') and (case when c.relkind = 'S' then has_sequence_privilege(c.oid, 'select')
                else has_table_privilege(c.oid, 'select') end)) limit 1000`,
  )
  if (denied.length > 0) {
    findings.push({
      code: 'source_denied',
      severity: 'error',
      message: `the agent may not read ${listOf(denied.map(({ part }) => part))}`,
      hint: 'Run as an administrator: grant pg_read_all_data to the role of the agent.',
    })
  }
  findings.push(...(await rowSecurity(session, server)), ...(await blockers(session)))
  if (server.standby) {
    findings.push({
      code: 'standby',
      severity: 'info',
      message: 'the server is a standby: a long backup may be ended by a conflict with replay',
      hint: 'Set hot_standby_feedback=on there, or back up the primary.',
    })
  }
  if (tables.length === 0) {
    findings.push({
      code: 'source_empty',
      severity: 'warning',
      message: 'there is no table to back up',
      hint: 'Check that the address names the right database.',
    })
  }
  return findings
}

/** Rows that a policy hides would be missing: the session's setting makes that an error, which is better known before. */
async function rowSecurity(session: Session, server: Server): Promise<Finding[]> {
  if (server.superuser) return []
  const hidden = await session.rows<{ part: string }>(
    `select format('%I.%I', n.nspname, c.relname) as part from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where row_security_active(c.oid) and c.relkind in ('r', 'p') limit 1000`,
  )
  if (hidden.length === 0) return []
  return [
    {
      code: 'source_denied',
      severity: 'error',
      message: `row-level security hides rows of ${listOf(hidden.map(({ part }) => part))}`,
      hint: 'Run as an administrator: alter role ... bypassrls for the role of the agent.',
    },
  ]
}

async function blockers(session: Session): Promise<Finding[]> {
  const locked = await session.rows<{ part: string; pid: number; seconds: number }>(
    `select distinct format('%I.%I', n.nspname, c.relname) as part, l.pid, extract(epoch from now() - a.xact_start)::int as seconds
     from pg_locks l join pg_class c on c.oid = l.relation join pg_namespace n on n.oid = c.relnamespace
     join pg_stat_activity a on a.pid = l.pid
     where l.mode = 'AccessExclusiveLock' and l.granted and c.relkind in ('r', 'p') and n.nspname !~ '^pg_'
       and l.database = (select oid from pg_database where datname = current_database())
       and a.xact_start < now() - interval '10 seconds' limit 100`,
  )
  return locked.map(({ part, pid, seconds }) => ({
    code: 'table_locked',
    severity: 'warning' as const,
    message: `${part} has been locked against reading for ${seconds} s by server process ${pid}: the backup will wait for it`,
    hint: 'See in pg_stat_activity what that process does; end it if it hangs.',
  }))
}

async function lookAtTarget(
  session: Session,
  server: Server,
  address: Address,
  plan: RestorePlan<PostgresConfig>,
): Promise<Finding[]> {
  const target = requireDatabaseName(plan.targetName ?? address.database, plan.config.maintenance_database)
  const findings: Finding[] = []
  if (server.standby) {
    findings.push({
      code: 'target_read_only',
      severity: 'error',
      message: 'the server is a standby: nothing can be restored into it',
      hint: 'Restore into the primary.',
    })
  }
  if (!server.createDatabase) {
    findings.push({
      code: 'source_denied',
      severity: 'error',
      message: 'the agent may not create databases',
      hint: 'Run as an administrator: alter role ... createdb for the role of the agent.',
    })
  }
  const exists = (await findDatabase(session, target)) !== null
  if (exists && plan.overwrite && plan.parts.length > 0) findings.push(asFinding(partsRefused(target)))
  if (exists && !plan.overwrite) {
    findings.push({
      code: 'source_exists',
      severity: 'error',
      message: `database ${JSON.stringify(target)} exists`,
      hint: 'Choose another name, or restore with --overwrite to replace it as a whole.',
    })
  }
  return findings
}

function tlsFinding(address: Address): Finding | null {
  if (isLocal(address) || address.tls.mode.startsWith('verify-')) return null
  return {
    code: 'tls_unverified',
    severity: 'warning',
    message: `the server ${address.host} is not verified: whoever stands between sees the data`,
    hint: 'Add sslmode=verify-full and sslrootcert to the address.',
  }
}

export function asFinding(error: HoldfastError): Finding {
  return {
    code: error.code,
    severity: 'error',
    message: error.message.slice(0, 4000),
    hint: (error.hint ?? 'See the log of the agent for details.').slice(0, 4000),
  }
}
