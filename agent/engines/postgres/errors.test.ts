import { expect, test } from 'vitest'
import { fromServer, fromTool } from './errors.ts'

/** Standard error as the tools of 14 to 18 write it. */
const SAMPLES: ReadonlyArray<readonly [string, string]> = [
  ['source_denied', 'pg_dump: error: connection to server at "10.0.0.5", port 5432 failed: SSL error: certificate verify failed'],
  [
    'source_denied',
    'psql: error: connection to server at "127.0.0.1", port 5432 failed: server certificate for "db1" does not match host name "127.0.0.1"',
  ],
  [
    'source_denied',
    'pg_dump: error: connection to server at "127.0.0.1", port 5432 failed: FATAL:  password authentication failed for user "backup"',
  ],
  [
    'source_denied',
    'psql: error: connection to server on socket "/run/postgresql/.s.PGSQL.5432" failed: FATAL:  role "root" does not exist',
  ],
  [
    'source_denied',
    'pg_dump: error: connection to server at "10.0.0.5", port 5432 failed: FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "backup", database "app", no encryption',
  ],
  [
    'source_denied',
    'pg_dump: error: connection to server at "db1" (10.0.0.5), port 5432 failed: fe_sendauth: no password supplied',
  ],
  [
    'source_missing',
    'pg_dump: error: connection to server at "127.0.0.1", port 5432 failed: FATAL:  database "a"\nb" does not exist',
  ],
  [
    'source_unreachable',
    'pg_dump: error: connection to server at "127.0.0.1", port 1 failed: Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?',
  ],
  [
    'source_unreachable',
    'psql: error: connection to server on socket "/run/postgresql/.s.PGSQL.5432" failed: No such file or directory\n\tIs the server running locally and accepting connections on that socket?',
  ],
  ['source_unreachable', 'pg_dump: error: could not translate host name "db9" to address: Name or service not known'],
  [
    'source_unreachable',
    'psql: error: connection to server at "127.0.0.1", port 5432 failed: FATAL:  the database system is starting up',
  ],
  [
    'source_unreachable',
    'psql:<stdin>:7: FATAL:  terminating connection due to administrator command\nserver closed the connection unexpectedly',
  ],
  [
    'source_unreachable',
    'pg_dump: error: connection to server at "127.0.0.1", port 5432 failed: FATAL:  sorry, too many clients already',
  ],
  [
    'source_denied',
    'pg_dump: error: query failed: ERROR:  permission denied for table hidden\npg_dump: detail: Query was: LOCK TABLE public.hidden IN ACCESS SHARE MODE',
  ],
  ['source_denied', 'psql:<stdin>:9: ERROR:  query would be affected by row-level security policy for table "hidden"'],
  [
    'source_denied',
    'pg_dump: error: query failed: WARNING:  out of shared memory\nERROR:  out of shared memory\nHINT:  You might need to increase "max_locks_per_transaction".',
  ],
  ['source_locked', 'pg_dump: error: query failed: ERROR:  canceling statement due to lock timeout'],
  [
    'source_changed',
    'psql:<stdin>:9: ERROR:  canceling statement due to conflict with recovery\nDETAIL:  User query might have needed to see row versions that must be removed.',
  ],
  ['source_unreachable', 'SSL SYSCALL error: EOF detected\ninvalid socket\nconnection to server was lost'],
  ['source_unreachable', 'pg_restore: error: could not execute query: SSL connection has been closed unexpectedly'],
  [
    'source_unreachable',
    'pg_dump: error: Dumping the contents of table "t" failed: PQgetResult() failed.\npg_dump: detail: Error message from server: could not send data to server: Connection timed out',
  ],
  ['source_changed', 'pg_dump: error: query failed: ERROR:  invalid snapshot identifier: "00000003-00000002-1"'],
  ['source_corrupt', 'psql:<stdin>:9: ERROR:  invalid page in block 3 of relation base/16384/16390'],
  [
    'tool_version',
    'pg_dump: error: aborting because of server version mismatch\npg_dump: detail: server version: 18.6; pg_dump version: 15.19',
  ],
  ['tool_version', 'pg_restore: error: unsupported version (1.16) in file header'],
  [
    'disk_full',
    'pg_restore: error: could not execute query: ERROR:  could not extend file "base/5/16390": No space left on device',
  ],
  ['not_supported', 'pg_restore: error: could not execute query: ERROR:  extension "postgis" is not available'],
  ['source_denied', 'pg_restore: error: could not execute query: ERROR:  must be able to SET ROLE "app_owner"'],
  ['tool_failed', 'pg_restore: error: something nobody has seen yet'],
]

test.each(SAMPLES)('%s: %s', (code, stderr) => {
  const error = fromTool({ tool: 'pg_dump', status: 1, killedBy: null, stderr })
  expect(error.code).toBe(code)
  expect(error.hint).toMatch(/^[A-Z].*\.$/s)
  expect(error.message).toMatch(/^pg_dump ended with status 1: /)
})

test('rows that a failed COPY quotes are in no error', () => {
  const stderr = `ERROR:  new row violates check constraint "c"\nDETAIL:  Failing row contains (1, a secret).\nCONTEXT:  COPY t, line 1: "1\ta secret"`
  const error = fromTool({ tool: 'psql', status: 3, killedBy: null, stderr })
  expect(JSON.stringify([error.message, error.context])).not.toContain('a secret')
  const server = fromServer({ code: '23505', message: 'duplicate key', detail: 'Key (v)=(a secret) already exists.' })
  expect(JSON.stringify([server.message, server.context])).not.toContain('a secret')
})

test.each([
  [{ code: '28P01', message: 'password authentication failed for user "x"' }, 'source_denied'],
  [{ code: 'ECONNREFUSED', message: 'connect ECONNREFUSED 127.0.0.1:1' }, 'source_unreachable'],
  [{ code: 'CONNECT_TIMEOUT', message: 'write CONNECT_TIMEOUT 10.0.0.1:5432' }, 'source_unreachable'],
  [{ code: 'CONNECTION_CLOSED', message: 'write CONNECTION_CLOSED 10.0.0.1:5432' }, 'source_unreachable'],
  [{ code: '3D000', message: 'database "x" does not exist' }, 'source_missing'],
  [{ code: '42P04', message: 'database "x" already exists' }, 'source_exists'],
  [{ code: '55P03', message: 'could not obtain lock on relation "t"' }, 'source_locked'],
  [{ code: '42809', message: 'invalid LC_COLLATE locale name: "de_DE.UTF-8"' }, 'not_supported'],
  [{ code: '0A000', message: 'ICU is not supported in this build' }, 'not_supported'],
  [{ code: '57P01', message: 'terminating connection due to administrator command' }, 'source_unreachable'],
  [{ code: '55006', message: 'database "x" is being accessed by other users' }, 'conflict'],
  [{ code: 'XX001', message: 'invalid page in block 0 of relation base/1/2' }, 'source_corrupt'],
  [{ code: '0L000', message: 'new in a later version' }, 'tool_failed'],
])('by the protocol: %j', (error, code) => {
  expect(fromServer(error)).toMatchObject({ code, hint: expect.stringMatching(/^[A-Z].*\.$/s) })
})
