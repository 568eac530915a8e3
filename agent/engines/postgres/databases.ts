import { HoldfastError } from '../../../shared/errors.ts'
import { randomBase32 } from '../../../shared/ids.ts'
import type { DatabaseFacts } from './artifacts.ts'
import { cutToBytes, ident, literal, MAX_NAME_BYTES } from './quote.ts'
import type { Server } from './server.ts'
import type { Session } from './session.ts'

/** Making, finding and dropping whole databases, from a session in another one. */

/** Comments by which a later run knows what a killed one left behind. */
export const UNFINISHED = 'holdfast: unfinished restore, may be dropped'
export const REPLACED = 'holdfast: replaced by a restore, may be dropped'
export const SANDBOX = 'holdfast: test restore, may be dropped'
const LEFT_BEHIND = [UNFINISHED, REPLACED, SANDBOX]
/** Names that only we give. The comment alone is not enough: it stays when a person gives a replaced database its name back. */
const OUR_NAMES = '(_holdfast|_before|^holdfast_test)_[0-9a-z]{10}$'

/** The comment of a restored database: never one of ours, which a backup of something left behind brings along. */
export const ownComment = (comment: string | null): string | null =>
  comment !== null && LEFT_BEHIND.includes(comment) ? null : comment

/** Throws `invalid_name` unless PostgreSQL can have a database of this name, and a restore may make it. */
export function requireDatabaseName(name: string, maintenance: string): string {
  const bytes = Buffer.byteLength(name)
  const usable = bytes >= 1 && bytes <= MAX_NAME_BYTES && !name.includes('\0') && name.isWellFormed()
  if (usable && !['template0', 'template1', maintenance].includes(name)) return name
  throw new HoldfastError('invalid_name', `${JSON.stringify(name.slice(0, 100))} cannot be the name of a restored database`, {
    hint: `Give a name of 1 to ${MAX_NAME_BYTES} bytes other than template0, template1 and the maintenance database.`,
  })
}

/** A name beside `name` that nothing else has. */
export function nameBeside(name: string, what: 'holdfast' | 'before'): string {
  const ending = `_${what}_${randomBase32(10)}`
  return cutToBytes(name, MAX_NAME_BYTES - ending.length) + ending
}

export async function findDatabase(session: Session, name: string): Promise<{ sizeBytes: number | null } | null> {
  const [row] = await session.rows<{ size: string | null }>(
    `select case when has_database_privilege(oid, 'connect') then pg_database_size(oid)::text end as size
     from pg_database where datname = $1`,
    [name],
  )
  return row ? { sizeBytes: row.size === null ? null : Number(row.size) } : null
}

/** Empty, from template0: template1 may hold things that the archive brings as well. */
export async function createDatabase(session: Session, name: string, facts: DatabaseFacts, server: Server): Promise<void> {
  const options = [
    'template template0',
    `encoding ${literal(facts.encoding)}`,
    `lc_collate ${literal(facts.collate)}`,
    `lc_ctype ${literal(facts.ctype)}`,
  ]
  if (server.major >= 15) options.push(`locale_provider ${facts.provider}`)
  if (facts.provider === 'icu' && facts.locale !== null) options.push(`icu_locale ${literal(facts.locale)}`)
  if (facts.provider === 'builtin' && facts.locale !== null) options.push(`builtin_locale ${literal(facts.locale)}`)
  if (facts.icu_rules !== null && server.major >= 16) options.push(`icu_rules ${literal(facts.icu_rules)}`)
  await session.run(`create database ${ident(name)} ${options.join(' ')}`)
  await session.run(`comment on database ${ident(name)} is ${literal(UNFINISHED)}`)
}

export async function dropDatabase(session: Session, name: string): Promise<void> {
  await session.run(`drop database if exists ${ident(name)} with (force)`)
}

/**
 * Takes a place for this session: no two restores write one, and a later run can tell what a dead one left behind. The lock goes
 * with the session, however that ends. The server knows such a lock in the database of its session alone, so those of sessions in other
 * maintenance databases are looked at besides; of two that come at once each may see the other, and neither has the place.
 */
export async function claim(session: Session, name: string): Promise<boolean> {
  const [row] = await session.rows<{ got: boolean }>(`select pg_try_advisory_lock(hashtextextended($1, 7440)) as got`, [name])
  if (!row?.got) return false
  const elsewhere = await session.rows(
    `select from pg_locks where locktype = 'advisory' and objsubid = 1 and granted
     and (classid::bigint << 32 | objid::bigint) = hashtextextended($1, 7440)
     and database <> (select oid from pg_database where datname = current_database())`,
    [name],
  )
  if (elsewhere.length === 0) return true
  await release(session, name)
  return false
}

/** What a test restore claims besides, for as long as its database is looked at. */
export const sandboxClaim = (name: string) => `sandbox ${name}`

export async function release(session: Session, name: string): Promise<void> {
  await session.rows(`select pg_advisory_unlock(hashtextextended($1, 7440))`, [name])
}

/** Drops what killed runs left: databases with a name and a comment of ours that no living run has claimed. Gives their names. */
export async function dropLeftBehind(session: Session): Promise<string[]> {
  const marks = LEFT_BEHIND.map(literal).join(', ')
  const left = await session.rows<{ name: string }>(
    `select datname as name from pg_database where shobj_description(oid, 'pg_database') in (${marks})
     and datname ~ ${literal(OUR_NAMES)} and pg_has_role(current_user, datdba, 'member')`,
  )
  const dropped: string[] = []
  for (const { name } of left) {
    // a restore claims the name, and a test restore another one for as long as its database is looked at
    const claims = [name, sandboxClaim(name)]
    const got: string[] = []
    for (const one of claims) if (await claim(session, one)) got.push(one)
    try {
      if (got.length < claims.length) continue
      await dropDatabase(session, name)
      dropped.push(name)
    } finally {
      for (const one of got) await release(session, one)
    }
  }
  return dropped
}
