import type { BackupSource } from '../../../../shared/artifacts.ts'
import type { Finding, Fingerprint } from '../../../../shared/results.ts'
import type { PostgresServer } from '../../../../test/harness/postgres.ts'
import type { BackupPlan, RestorePlan } from '../../engine.ts'
import { type MemoryBackup, memorySink, memorySource } from '../../testing/memory.ts'
import { backupPlan, restorePlan, withRun } from '../../testing/plans.ts'
import { type PostgresConfig, postgresConfig } from '../config.ts'
import { postgresEngine } from '../postgres.ts'
import { ident } from '../quote.ts'

/** Short forms for tests against a real server. */

export function configOf(server: PostgresServer, database: string, more: Record<string, unknown> = {}): PostgresConfig {
  return postgresConfig.parse({ url: server.url(database), password: server.password, tools: [server.tools], ...more })
}

export async function makeDatabase(server: PostgresServer, name: string, content: string, options = ''): Promise<void> {
  await server.sql('postgres', `create database ${ident(name)} ${options}`)
  await server.sql(name, content)
}

export interface Backup {
  readonly backup: MemoryBackup
  readonly source: BackupSource
  readonly fingerprint: Fingerprint
  readonly findings: readonly Finding[]
}

export async function backUp(config: PostgresConfig, more: Partial<BackupPlan<PostgresConfig>> = {}): Promise<Backup> {
  const { sink, backup } = memorySink()
  return withRun(async (run) => {
    const fingerprint = await postgresEngine.backup(backupPlan(config, more), sink, run)
    return { backup, fingerprint, source: memorySource(backup, fingerprint), findings: run.findings }
  })
}

/** Gives the findings. */
export async function restoreTo(
  config: PostgresConfig,
  target: string | null,
  source: BackupSource,
  more: Partial<RestorePlan<PostgresConfig>> = {},
): Promise<readonly Finding[]> {
  return withRun(async (run) => {
    await postgresEngine.restore(restorePlan(config, target, more), source, run)
    return run.findings
  })
}

export async function databaseNames(server: PostgresServer): Promise<string[]> {
  const rows = await server.sql<{ datname: string }>(
    'postgres',
    `select datname from pg_database where not datistemplate order by 1`,
  )
  return rows.map(({ datname }) => datname)
}

export async function tableNames(server: PostgresServer, database: string): Promise<string[]> {
  const rows = await server.sql<{ part: string }>(
    database,
    `select format('%I.%I', schemaname, tablename) as part from pg_tables
     where schemaname !~ '^pg_' and schemaname <> 'information_schema' order by 1`,
  )
  return rows.map(({ part }) => part)
}
