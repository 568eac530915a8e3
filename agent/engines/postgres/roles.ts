import { isHoldfastError } from '../../../shared/errors.ts'
import type { Run } from '../engine.ts'
import type { PostgresConfig } from './config.ts'
import { ident, literal } from './quote.ts'
import type { Server } from './server.ts'
import type { Session } from './session.ts'

export interface RolesReady {
  /** False: owners and grants have to be left out. */
  readonly owners: boolean
  /** Made by this restore, to be dropped again when it fails. */
  readonly created: readonly string[]
}

/** Those of `wanted` that the server lacks, and those that the agent may not act for. */
export async function lookAtRoles(
  session: Session,
  wanted: readonly string[],
): Promise<{ missing: string[]; foreign: string[] }> {
  const missing: string[] = []
  const foreign: string[] = []
  for (let from = 0; from < wanted.length; from += 500) {
    const values = wanted.slice(from, from + 500).map((role) => `(${literal(role)})`)
    const rows = await session.rows<{ name: string; there: boolean; mine: boolean }>(
      `select w.name, r.oid is not null as there, coalesce(pg_has_role(current_user, r.oid, 'member'), false) as mine
       from (values ${values.join(', ')}) w (name) left join pg_roles r on r.rolname = w.name`,
    )
    for (const row of rows) {
      if (!row.there) missing.push(row.name)
      else if (!row.mine) foreign.push(row.name)
    }
  }
  return { missing, foreign }
}

/**
 * A restore never changes a role. One that owns something and is missing is made without login, password or rights, so
 * that ownership and grants come back as they were; its full definition is in the artifact `globals`, for a person to apply.
 */
export async function prepareRoles(
  session: Session,
  wanted: readonly string[],
  server: Server,
  config: PostgresConfig,
  run: Run,
): Promise<RolesReady> {
  const { missing, foreign } = await lookAtRoles(session, wanted)
  if (missing.length + foreign.length === 0) return { owners: true, created: [] }
  if (foreign.length > 0 || config.missing_roles === 'leave-out' || !server.createRole) {
    run.finding({
      code: 'owners_left_out',
      severity: 'warning',
      message: `owners and grants are left out, because of these roles: ${listOf([...missing, ...foreign])}`,
      hint: 'Create the missing roles, let the agent be a member of all of them (or a superuser), and restore again.',
    })
    return { owners: false, created: [] }
  }
  const created: string[] = []
  for (const role of missing) if (await create(session, role, server)) created.push(role)
  run.finding({
    code: 'roles_created',
    severity: 'warning',
    message: `these roles were missing and were made without login and password: ${listOf(missing)}`,
    hint: 'Give them their passwords and memberships back; the artifact globals of the backup holds them as SQL.',
  })
  return { owners: true, created }
}

/** `duplicate_object`, and `unique_violation` of whoever lost a race (PostgreSQL 18, appendix A). */
const EXISTS = ['42710', '23505']

/** False: another restore made it meanwhile, and drops it if it fails. */
async function create(session: Session, role: string, server: Server): Promise<boolean> {
  const made = await session.run(`create role ${ident(role)} nologin`).then(
    () => true,
    (error: unknown) => {
      if (!isHoldfastError(error) || !EXISTS.includes(String(error.context?.state))) throw error
      return false
    },
  )
  if (!server.superuser) await session.run(`grant ${ident(role)} to current_user`)
  return made
}

export async function dropRoles(session: Session, roles: readonly string[]): Promise<void> {
  for (const role of roles) await session.run(`drop role if exists ${ident(role)}`)
}

export const listOf = (names: readonly string[]) => {
  const shown = names.slice(0, 20).map((name) => JSON.stringify(name))
  return names.length > 20 ? `${shown.join(', ')} and ${names.length - 20} more` : shown.join(', ')
}
