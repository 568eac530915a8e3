import { readdir } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { sourceNameFor } from '../../../shared/add-command.ts'
import { isHoldfastError } from '../../../shared/errors.ts'
import type { FoundSource } from '../../../shared/results.ts'
import type { Run } from '../engine.ts'
import type { Address } from './address.ts'
import { asFinding } from './preflight.ts'
import { serverOf } from './server.ts'
import { openSession, type Session } from './session.ts'
import { formatConnectionUrl } from './url.ts'

const SOCKET_FOLDERS = ['/run/postgresql', '/var/run/postgresql', '/tmp']
/** Debian counts up from here for each further cluster. */
const PORTS = [5432, 5433, 5434, 5435, 5436, 5437, 5438, 5439]

/** Databases that are none of a user's. */
const OWN = ['postgres', 'template0', 'template1']

/** Servers by their sockets and usual ports; what is in them as far as the agent's own user, or `postgres`, may look. */
export function discover(run: Run): Promise<FoundSource[]> {
  return discoverAt(SOCKET_FOLDERS, PORTS, run)
}

export async function discoverAt(folders: readonly string[], usual: readonly number[], run: Run): Promise<FoundSource[]> {
  const found: FoundSource[] = []
  const ports = new Set<number>()
  for (const { host, port } of [...(await sockets(folders)), ...usual.map((port) => ({ host: '127.0.0.1', port }))]) {
    run.signal.throwIfAborted()
    if (ports.has(port)) continue
    const sources = await lookInto(host, port, run)
    if (sources === null) continue
    ports.add(port)
    found.push(...sources)
  }
  return found
}

async function sockets(folders: readonly string[]): Promise<Array<{ host: string; port: number }>> {
  const found: Array<{ host: string; port: number }> = []
  for (const folder of folders) {
    const names = await readdir(folder).catch(() => [])
    for (const name of names) {
      const match = /^\.s\.PGSQL\.(\d{1,5})$/.exec(name)
      if (match) found.push({ host: folder, port: Number(match[1]) })
    }
  }
  return found
}

/** Null: no server answers there. */
async function lookInto(host: string, port: number, run: Run): Promise<FoundSource[] | null> {
  let denied: FoundSource | null = null
  for (const user of new Set([userInfo().username, 'postgres'])) {
    const address: Address = { host, port, user, database: 'postgres', password: null, tls: { mode: 'prefer' } }
    try {
      const session = await openSession(address)
      try {
        return await databases(session, address)
      } finally {
        await session.close()
      }
    } catch (error) {
      run.signal.throwIfAborted()
      if (isHoldfastError(error, 'source_unreachable') || !isHoldfastError(error)) {
        run.log.debug({ host, port, err: error }, 'no postgresql server here')
        if (denied === null) return null
        continue
      }
      denied = {
        engine: 'postgres',
        title: `postgresql on port ${port}`,
        facts: { port: String(port), host },
        add: ['--engine', 'postgres', '--url', formatConnectionUrl({ host, port, user: 'USER', database: 'DATABASE' })],
        findings: [{ ...asFinding(error), severity: 'warning' }],
      }
    }
  }
  return denied ? [denied] : null
}

async function databases(session: Session, address: Address): Promise<FoundSource[]> {
  const server = await serverOf(session)
  const rows = await session.rows<{ name: string; size: string | null; readable: boolean }>(
    `select datname as name, case when has_database_privilege(oid, 'connect') then pg_database_size(oid)::text end as size,
            (select rolsuper from pg_roles where rolname = current_user) or pg_has_role(current_user, 'pg_read_all_data', 'usage') as readable
     from pg_database where datallowconn and not datistemplate order by 1`,
  )
  return rows
    .filter(({ name }) => !OWN.includes(name))
    .map(({ name, size, readable }) => ({
      engine: 'postgres',
      title: `postgresql ${server.major} on port ${address.port}: ${name}`,
      name: sourceNameFor(name),
      facts: { version: server.version, port: String(address.port), host: address.host, database: name, user: address.user },
      ...(size === null ? {} : { size_bytes: Number(size) }),
      add: ['--engine', 'postgres', '--url', formatConnectionUrl({ ...address, database: name })],
      findings: readable
        ? []
        : [
            {
              code: 'source_denied',
              severity: 'warning' as const,
              message: `${address.user} may not read everything in ${name}`,
              hint: 'Run as an administrator: grant pg_read_all_data to the role of the agent.',
            },
          ],
    }))
}
