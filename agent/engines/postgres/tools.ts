import path from 'node:path'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Finding } from '../../../shared/results.ts'
import type { Run } from '../engine.ts'
import type { Address } from './address.ts'
import type { PostgresConfig } from './config.ts'
import { fromTool } from './errors.ts'
import { asOptions, SESSION_SETTINGS } from './settings.ts'

/** The client programs of one major version, all from one folder. */
export interface PostgresTools {
  readonly version: string
  readonly dump: string
  readonly dumpall: string
  readonly restore: string
  readonly psql: string
}

/**
 * First minor versions that withstand a hostile server or archive: CVE-2024-7348, CVE-2025-8714, CVE-2025-8715,
 * CVE-2026-6477 (the announcement of 2026-05-14 lists the last).
 */
const SAFE_MINOR: Readonly<Record<number, number>> = { 14: 23, 15: 18, 16: 14, 17: 10, 18: 4 }

const USUAL_FOLDERS = (major: number) => [
  `/usr/lib/postgresql/${major}/bin`,
  `/usr/pgsql-${major}/bin`,
  `/usr/local/pgsql-${major}/bin`,
  `/opt/homebrew/opt/postgresql@${major}/bin`,
]

/**
 * The tools of the server's own major version: an older pg_dump refuses a newer server, and a newer one writes archives
 * that the server's own pg_restore cannot read. Throws `tool_version` (or `tool_missing`) naming what to install.
 */
export async function matchingTools(config: PostgresConfig, major: number, run: Run): Promise<PostgresTools> {
  const seen: string[] = []
  for (const folder of [...config.tools, ...USUAL_FOLDERS(major), null]) {
    const dump = await findIn(folder, run)
    if (dump === null) continue
    const version = await versionOf(dump, run)
    seen.push(`${dump} (${version})`)
    if (Number.parseInt(version, 10) !== major) continue
    const folders = [path.dirname(dump)]
    const [dumpall, restore, psql] = await Promise.all(
      ['pg_dumpall', 'pg_restore', 'psql'].map((name) => run.tools.find(name, folders)),
    )
    if (dumpall && restore && psql) return { version, dump, dumpall, restore, psql }
  }
  throw new HoldfastError('tool_version', `no client tools of postgresql ${major} were found on this host`, {
    hint: `Install version ${major} of pg_dump, pg_restore, pg_dumpall and psql (on Debian: postgresql-client-${major}), or name their folder in the setting tools.`,
    context: { needed: major, found: seen },
  })
}

/** A finding for tools with a known hole, or null. */
export function toolFinding(tools: PostgresTools): Finding | null {
  const [major = 0, minor = 0] = tools.version.split('.').map((digits) => Number.parseInt(digits, 10))
  const safe = SAFE_MINOR[major]
  if (safe === undefined || minor >= safe) return null
  return {
    code: 'tool_outdated',
    severity: 'warning',
    message: `the tools of postgresql ${tools.version} can be attacked by a hostile server (CVE-2026-6477, CVE-2025-8714, CVE-2024-7348)`,
    hint: `Install version ${major}.${safe} or later of the client tools.`,
  }
}

/** The whole environment by which a tool finds the database: names never stand in arguments, where they could be options. */
export function toolEnvironment(
  address: Address,
  database: string,
  applicationName: string,
  settings: Readonly<Record<string, string>> = SESSION_SETTINGS,
): Record<string, string> {
  const { tls } = address
  return {
    PGHOST: address.host,
    PGPORT: String(address.port),
    PGUSER: address.user,
    PGDATABASE: database,
    PGAPPNAME: applicationName,
    PGSSLMODE: tls.mode,
    PGGSSENCMODE: 'disable',
    PGCONNECT_TIMEOUT: '30',
    PGOPTIONS: asOptions(settings),
    // nothing of the agent's user is read behind its back
    PGPASSFILE: '/dev/null',
    PGSERVICEFILE: '/dev/null',
    ...(address.password ? { PGPASSWORD: address.password.reveal() } : {}),
    ...(tls.rootCert ? { PGSSLROOTCERT: tls.rootCert } : {}),
    ...(tls.cert ? { PGSSLCERT: tls.cert } : {}),
    ...(tls.key ? { PGSSLKEY: tls.key } : {}),
  }
}

async function findIn(folder: string | null, run: Run): Promise<string | null> {
  try {
    const found = await run.tools.find('pg_dump', folder === null ? [] : [folder])
    return folder === null || path.dirname(found) === path.normalize(folder).replace(/\/$/, '') ? found : null
  } catch (error) {
    if (error instanceof HoldfastError && error.code === 'tool_missing') return null
    throw error
  }
}

/** "15.18" of "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)". */
async function versionOf(dump: string, run: Run): Promise<string> {
  const { stdout } = await run.tools.run(dump, ['--version'], {
    signal: run.signal,
    maxOutputBytes: 4096,
    mapError: fromTool,
  })
  return /\(PostgreSQL\) (\d+(?:\.\d+)?)/.exec(stdout.toString('utf8'))?.[1] ?? '0'
}
