/**
 * Settings of every session, so that what is read does not depend on how the server, database or role is set up: pg_dump's
 * own ones. `row_security=off` turns rows that a policy would hide into an error; `synchronize_seqscans=off` keeps the
 * order of rows, on which finding duplicates rests.
 */
export const SESSION_SETTINGS = {
  datestyle: 'ISO',
  intervalstyle: 'postgres',
  extra_float_digits: '3',
  synchronize_seqscans: 'off',
  row_security: 'off',
  statement_timeout: '0',
  lock_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
  search_path: 'pg_catalog',
  standard_conforming_strings: 'on',
  client_min_messages: 'warning',
} as const

/** For sessions that fill a database that nobody uses yet: its rename, which is synchronous, makes all of it durable. */
export const FILL_SETTINGS = { ...SESSION_SETTINGS, synchronous_commit: 'off', default_transaction_read_only: 'off' } as const

/** PGOPTIONS for the tools. */
export function asOptions(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value.replace(/[\\ ]/g, '\\$&')}`)
    .join(' ')
}
