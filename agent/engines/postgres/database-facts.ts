import type { DatabaseFacts } from './artifacts.ts'
import type { Server } from './server.ts'
import type { Session } from './session.ts'

/** The role that initdb made. What it owns is in no list of dependencies, since it cannot be dropped. */
const BOOTSTRAP = 10
const FIRST_OF_USERS = 16384
const OWNED_BY_BOOTSTRAP = [
  ['pg_class', 'relowner'],
  ['pg_proc', 'proowner'],
  ['pg_type', 'typowner'],
  ['pg_namespace', 'nspowner'],
  ['pg_largeobject_metadata', 'lomowner'],
]
  .map(([catalog, owner]) => `exists (select from ${catalog} where ${owner} = ${BOOTSTRAP} and oid >= ${FIRST_OF_USERS})`)
  .join(' or ')

/** Reads what the artifact `database` holds. Columns for locales were renamed in 17 and came in 15 (ICU) and 16 (its rules). */
export async function readDatabaseFacts(
  session: Session,
  server: Server,
  selection: Pick<DatabaseFacts, 'chosen' | 'left_out'>,
): Promise<DatabaseFacts> {
  const provider =
    server.major >= 15 ? `case d.datlocprovider when 'i' then 'icu' when 'b' then 'builtin' else 'libc' end` : `'libc'`
  const locale = server.major >= 17 ? 'd.datlocale' : server.major >= 15 ? 'd.daticulocale' : 'null'
  const rules = server.major >= 16 ? 'd.daticurules' : 'null'
  const [row] = await session.rows<Omit<DatabaseFacts, 'server_version' | 'server_major' | 'chosen' | 'left_out'>>(
    `select d.datname as name, pg_get_userbyid(d.datdba) as owner, pg_encoding_to_char(d.encoding) as encoding,
            d.datcollate as collate, d.datctype as ctype, ${provider} as provider, ${locale} as locale, ${rules} as icu_rules,
            d.datconnlimit as connection_limit, shobj_description(d.oid, 'pg_database') as comment,
            case when d.datacl is not null then (select coalesce(json_agg(json_build_object(
              'grantee', case when a.grantee <> 0 then pg_get_userbyid(a.grantee) end,
              'privilege', a.privilege_type, 'grantable', a.is_grantable)), '[]') from aclexplode(d.datacl) a) end as acl,
            (select coalesce(json_agg(json_build_object('role', r.rolname, 'setting', one)), '[]')
             from pg_db_role_setting s left join pg_roles r on r.oid = s.setrole, unnest(s.setconfig) one
             where s.setdatabase = d.oid) as settings,
            (select coalesce(json_agg(r.rolname order by r.rolname), '[]') from pg_roles r where r.rolname !~ '^pg_' and (
               exists (select from pg_shdepend s where s.refclassid = 'pg_authid'::regclass and s.refobjid = r.oid
                       and (s.dbid = d.oid or (s.classid = 'pg_database'::regclass and s.objid = d.oid)))
               or r.oid = ${BOOTSTRAP} and (d.datdba = ${BOOTSTRAP} or ${OWNED_BY_BOOTSTRAP}))) as roles,
            (select coalesce(json_agg(json_build_object('name', extname, 'version', extversion) order by extname), '[]')
             from pg_extension) as extensions,
            (select coalesce(json_agg(spcname order by spcname), '[]') from pg_tablespace
             where oid in (select reltablespace from pg_class where oid >= ${FIRST_OF_USERS})) as tablespaces,
            exists (select from pg_namespace where nspname = 'public') as has_public
     from pg_database d where d.datname = current_database()`,
  )
  if (!row) throw new Error('the server does not list the database that it serves')
  // it goes into statements of psql, and the server is not trusted
  if (!/^[A-Za-z0-9_]{1,30}$/.test(row.encoding)) throw new Error('the server names an encoding that cannot be one')
  return { ...row, server_version: server.version, server_major: server.major, ...selection }
}
