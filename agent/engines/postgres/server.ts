import { HoldfastError } from '../../../shared/errors.ts'
import type { Session } from './session.ts'

/** What a server is, asked on every run: it may have been upgraded or failed over since. */
export interface Server {
  /** "15.18". */
  readonly version: string
  readonly major: number
  readonly standby: boolean
  readonly superuser: boolean
  readonly createDatabase: boolean
  readonly createRole: boolean
}

export const OLDEST_MAJOR = 14

export async function serverOf(session: Session): Promise<Server> {
  const [row] = await session.rows<{
    number: number
    standby: boolean
    superuser: boolean
    createdb: boolean
    createrole: boolean
  }>(
    `select current_setting('server_version_num')::int as number, pg_is_in_recovery() as standby, rolsuper as superuser,
            rolsuper or rolcreatedb as createdb, rolsuper or rolcreaterole as createrole
     from pg_roles where rolname = current_user`,
  )
  if (!row)
    throw new HoldfastError('source_denied', 'the server does not say who the agent is', { hint: 'Check the role of the agent.' })
  const major = Math.floor(row.number / 10000)
  if (major < OLDEST_MAJOR) {
    throw new HoldfastError('not_supported', `postgresql ${major} is not supported`, {
      hint: `Upgrade the server to version ${OLDEST_MAJOR} or later.`,
    })
  }
  return {
    version: `${major}.${row.number % 10000}`,
    major,
    standby: row.standby,
    superuser: row.superuser,
    createDatabase: row.createdb,
    createRole: row.createrole,
  }
}
