import { asHoldfastError, type ErrorCode, HoldfastError } from '../../../shared/errors.ts'
import type { ToolFailure } from '../../process/tools.ts'

interface Known {
  /** SQLSTATE (PostgreSQL 18, appendix A) or the code of a socket's error; for what comes by the protocol. */
  readonly states: readonly string[]
  /** In what a tool prints; for what comes by libpq. */
  readonly text: RegExp
  readonly code: ErrorCode
  readonly hint: string
}

/** The first row that fits wins. Real samples of each stand in errors.test.ts. */
const KNOWN: readonly Known[] = [
  {
    states: [
      ...['DEPTH_ZERO_SELF_SIGNED_CERT', 'SELF_SIGNED_CERT_IN_CHAIN', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'CERT_HAS_EXPIRED'],
      ...['UNABLE_TO_GET_ISSUER_CERT', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'ERR_TLS_CERT_ALTNAME_INVALID'],
    ],
    text: /certificate verify failed|server certificate for .* does not match|root certificate file .* does not exist/,
    code: 'source_denied',
    hint: "Name the certificate of the server's authority as sslrootcert, and the server as its certificate does.",
  },
  {
    states: ['28P01', '28000'],
    text: /authentication failed|no pg_hba\.conf entry|no password supplied|role ".*" does not exist|is not permitted to log in/s,
    code: 'source_denied',
    hint: "Check the user, the password and the server's pg_hba.conf for the agent's host.",
  },
  {
    states: ['3D000'],
    text: /database ".*" does not exist/s,
    code: 'source_missing',
    hint: 'Check the name of the database in the source configuration; it may have been dropped or renamed.',
  },
  {
    states: ['53300'],
    text: /too many clients already|remaining connection slots are reserved|too many connections for/,
    code: 'source_unreachable',
    hint: 'Raise max_connections, or lower the setting parallel of the source; then run the job again.',
  },
  {
    states: ['53200'],
    text: /out of shared memory/,
    code: 'source_denied',
    hint: 'Raise max_locks_per_transaction on the server: every table is locked against being dropped while it is read.',
  },
  {
    states: [],
    text: /row-level security policy/,
    code: 'source_denied',
    hint: 'Give the role of the agent BYPASSRLS: otherwise rows would be missing from the backup.',
  },
  {
    states: ['42501'],
    text: /permission denied|must be owner of|must be superuser|must be able to SET ROLE/,
    code: 'source_denied',
    hint: 'Grant the role of the agent pg_read_all_data for backups, CREATEDB and the owning roles for restores; `discover` prints what is missing.',
  },
  {
    states: ['55P03'],
    text: /could not obtain lock on relation|due to lock timeout/,
    code: 'source_locked',
    hint: 'Someone changes tables, or waits to: see pg_locks, and run the job again when that is done.',
  },
  {
    states: ['40001'],
    text: /conflict with recovery/,
    code: 'source_changed',
    hint: 'Set hot_standby_feedback=on on the standby, or raise max_standby_streaming_delay, or back up the primary.',
  },
  {
    states: ['57P01', '57P02', '57P03', '57P05', 'ECONNREFUSED', 'ECONNRESET', 'ENOENT', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND'],
    text: /Connection refused|could not translate host name|the database system is|terminating connection|server closed the connection|No such file or directory\s+Is the server running|connection to server .* failed|no connection to the server|could not receive data from server|could not send data to server|SSL SYSCALL error|SSL connection has been closed|connection to server was lost/s,
    code: 'source_unreachable',
    hint: 'Check that the server runs and can be reached from this host, then run the job again.',
  },
  {
    states: [
      'CONNECTION_CLOSED',
      'CONNECTION_ENDED',
      'CONNECTION_DESTROYED',
      'CONNECT_TIMEOUT',
      'EHOSTUNREACH',
      '08006',
      '08001',
    ],
    text: /timeout expired/,
    code: 'source_unreachable',
    hint: 'Check the network between this host and the server, and the log of the server, then run the job again.',
  },
  {
    states: ['42P04'],
    text: /database ".*" already exists/s,
    code: 'source_exists',
    hint: 'Choose another name, or restore with --overwrite.',
  },
  {
    states: ['53100'],
    text: /No space left on device/,
    code: 'disk_full',
    hint: 'Free space on the disk that the message names; a restore needs the size of the database beside what is there.',
  },
  {
    states: ['XX001', 'XX002', '58P01'],
    text: /invalid page in block|could not read block|missing chunk number|compressed data is corrupt|could not open file "base\//,
    code: 'source_corrupt',
    hint: 'The server cannot read its own data: see its log, and restore the last good backup beside it before anything is repaired.',
  },
  {
    states: ['42P01', '42704', '55000'],
    text: /invalid snapshot identifier|relation ".*" does not exist|could not open relation with OID/s,
    code: 'source_changed',
    hint: 'Something was dropped while it was read: run the job again.',
  },
  {
    states: ['55006'],
    text: /is being accessed by other users/,
    code: 'conflict',
    hint: 'Stop what is connected to that database, then run the job again.',
  },
  {
    states: [],
    text: /aborting because of server version mismatch|unsupported version \(.*\) in file header/,
    code: 'tool_version',
    hint: 'Install the client tools of the same major version as the server, or name their folder in the setting tools.',
  },
  {
    states: [],
    text: /could not open extension control file|extension ".*" is not available/,
    code: 'not_supported',
    hint: 'Install the package of that extension on the server that is restored to.',
  },
  {
    states: [],
    text: /invalid LC_\w+ locale name|does not match locale|ICU is not supported in this build|could not open collator/,
    code: 'not_supported',
    hint: 'The server lacks the locale of the source database: install it there (locale-gen, or a build with ICU), and restart the server.',
  },
]

/** An error of the `postgres` client as ours; the statement and its parameters are left out. */
export function fromServer(error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error
  const { code: state, message, detail, hint } = (error ?? {}) as Record<string, string | undefined>
  if (state === undefined) return asHoldfastError(error)
  const text = message ?? state
  const known = KNOWN.find((row) => row.text.test(text)) ?? KNOWN.find((row) => row.states.includes(state))
  return new HoldfastError(known?.code ?? 'tool_failed', `postgresql: ${text.slice(0, 1000)}`, {
    hint: known?.hint ?? hint ?? 'See the log of the PostgreSQL server for the statement that failed.',
    // the detail of a failed constraint repeats the row: data has no place in errors
    context: { state, ...(/^2/.test(state) ? {} : { detail: detail?.slice(0, 500) }) },
  })
}

/** A failed tool as an error of ours. What it printed is data of the server: bounded, and without the rows that it quotes. */
export function fromTool(failure: ToolFailure): HoldfastError {
  const said = withoutRows(failure.stderr)
  const known = KNOWN.find((row) => row.text.test(said))
  const how = failure.killedBy ? `was ended by ${failure.killedBy}` : `ended with status ${failure.status}`
  const first = said.split('\n').find((line) => /error|fatal/i.test(line)) ?? said.split('\n')[0] ?? ''
  return new HoldfastError(known?.code ?? 'tool_failed', `${failure.tool} ${how}: ${first.trim().slice(0, 500)}`, {
    hint: known?.hint ?? 'Its last words are in the context; run the job again once their cause is mended.',
    context: { tool: failure.tool, status: failure.status, killed_by: failure.killedBy, stderr: said },
  })
}

/** DETAIL and CONTEXT lines of a failed COPY quote the row. */
function withoutRows(stderr: string): string {
  return stderr
    .split('\n')
    .filter((line) => !/^(DETAIL|CONTEXT):/.test(line.trim()))
    .join('\n')
    .trim()
}
