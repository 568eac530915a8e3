import type { Run } from '../engine.ts'
import type { DatabaseFacts } from './artifacts.ts'
import { ident, literal } from './quote.ts'
import type { Session } from './session.ts'

/**
 * What belongs to the database as a whole: pg_restore applies it only with --create, which insists on the source's name.
 * What cannot be applied is a finding: the data is there, and a setting is easily set by hand.
 */
export async function applyProperties(
  session: Session,
  name: string,
  facts: DatabaseFacts,
  owners: boolean,
  run: Run,
): Promise<void> {
  const database = ident(name)
  const attempt = async (what: string, ...statements: string[]) => {
    try {
      await session.run(`begin; ${statements.join('; ')}; commit`)
    } catch (error) {
      run.signal.throwIfAborted()
      await session.run('rollback')
      run.finding({
        code: 'property_left_out',
        severity: 'warning',
        message: `${what} of the database could not be set: ${error instanceof Error ? error.message : String(error)}`.slice(
          0,
          4000,
        ),
        hint: 'Set it by hand, or let the agent be the owner of the database or a superuser.',
      })
    }
  }
  for (const { role, setting } of facts.settings) {
    const equals = setting.indexOf('=')
    const variable = setting.slice(0, equals)
    const target = role === null ? `alter database ${database}` : `alter role ${ident(role)} in database ${database}`
    if (role !== null && !owners) continue
    const quoted = variable.split('.').map(ident).join('.')
    // FROM CURRENT stores a list as a list; quoting the stored text would make it one odd name (as in search_path)
    await attempt(
      `the setting ${variable}`,
      `select pg_catalog.set_config(${literal(variable)}, ${literal(setting.slice(equals + 1))}, true)`,
      `${target} set ${quoted} from current`,
    )
  }
  if (owners && facts.acl !== null) {
    const grants = facts.acl.map(
      ({ grantee, privilege, grantable }) =>
        `grant ${privilege} on database ${database} to ${grantee === null ? 'public' : ident(grantee)}${grantable ? ' with grant option' : ''}`,
    )
    await attempt('a grant', `revoke all on database ${database} from public`, ...grants)
  }
  if (owners) await attempt('the owner', `alter database ${database} owner to ${ident(facts.owner)}`)
  if (facts.connection_limit >= 0) {
    await attempt('the connection limit', `alter database ${database} connection limit ${facts.connection_limit}`)
  }
}
