import { readFileSync } from 'node:fs'
import type { PeerCertificate } from 'node:tls'
import type postgres from 'postgres'
import { HoldfastError } from '../../../shared/errors.ts'
import { randomBase32 } from '../../../shared/ids.ts'
import type { Run } from '../engine.ts'
import type { Address } from './address.ts'
import { fromServer } from './errors.ts'
import { SESSION_SETTINGS } from './settings.ts'
import { type Place, Wire } from './wire.ts'

/**
 * One connection that is never silently made anew: a transaction, its snapshot and its locks are gone with it, and going on
 * without them would be wrong. Queries one after the other.
 */
export interface Session {
  rows<Row>(text: string, parameters?: readonly (string | number | boolean)[]): Promise<Row[]>
  /** Several statements, no parameters, no answer. */
  run(text: string): Promise<void>
  /** The rows that a COPY ... TO STDOUT gives. Each piece is valid until the next is asked for; once all have come, `counted` is told how many rows they were. Left early, it cuts the session. */
  copyOut(text: string, counted?: (rows: number) => void): AsyncIterable<Buffer>
  close(): Promise<void>
  /** Ends it in the middle of whatever it does: who waits for it is told that it was lost. */
  cut(): void
}

/**
 * All sessions of one run, ours and the tools', carry one application name, so that an abort can end them on the server:
 * a closed socket alone does not stop a backend that waits for a lock.
 */
export interface Sessions {
  readonly applicationName: string
  readonly address: Address
  open(database?: string): Promise<Session>
}

/** Gives `work` sessions; ends all of them afterwards. On abort they are ended on the server first, and the reason is thrown. */
export async function withSessions<T>(address: Address, run: Run, work: (sessions: Sessions) => Promise<T>): Promise<T> {
  run.signal.throwIfAborted()
  const applicationName = `holdfast ${randomBase32(10)}`
  const open = new Set<Session>()
  let ending: Promise<void> | undefined
  const onAbort = () => {
    ending = endOnServer(address, applicationName, run)
  }
  run.signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await work({
      applicationName,
      address,
      open: async (database) => {
        const session = await openSession({ ...address, database: database ?? address.database }, applicationName)
        open.add(session)
        run.signal.throwIfAborted()
        return session
      },
    })
  } catch (error) {
    run.signal.throwIfAborted()
    throw error
  } finally {
    run.signal.removeEventListener('abort', onAbort)
    await ending
    await Promise.all([...open].map((session) => session.close()))
  }
}

/** Opens a connection with the settings of every session. Throws `source_unreachable`, `source_denied` or `source_missing`. */
export async function openSession(address: Address, applicationName = 'holdfast'): Promise<Session> {
  // 6 MB that an agent without such a source, and a job of another engine, do without
  const { default: connect } = await import('postgres')
  let lost: unknown
  let closing = false
  const gone = Promise.withResolvers<never>()
  let wire: Wire | undefined
  const place = placeOf(address)
  // whoever asks for something hears of it
  gone.promise.catch(() => undefined)
  const dial = async () => {
    wire = await Wire.open(place)
    return wire
  }
  const sql = connect({
    ...serverOf(address),
    ...FIXED_OPTIONS,
    ...{ socket: () => dial() },
    // the client leaves out what is falsy, so numbers are texts, unlike in its types
    connection: { application_name: applicationName, ...SESSION_SETTINGS } as unknown as Partial<postgres.ConnectionParameters>,
    // a notice of the server is no answer to anything that is asked here
    onnotice: () => undefined,
    onclose: () => {
      lost ??= new HoldfastError('source_unreachable', 'the connection to the server was lost', {
        hint: 'See the log of the server for why it ended the session; the job can be run again.',
      })
      gone.reject(lost)
    },
  })
  const guarded = async <T>(work: () => Promise<T>): Promise<T> => {
    if (lost && !closing) throw lost
    try {
      // the client (postgres 3.4.9) never settles what it is asked between the error of its socket and the socket's end
      return await Promise.race([work(), gone.promise])
    } catch (error) {
      throw error === lost ? error : fromServer(error)
    }
  }
  const session: Session = {
    rows: (text, parameters = []) =>
      guarded(async () => Array.from(await sql.unsafe(text, [...parameters], { prepare: false }))) as never,
    run: (text) => guarded(async () => void (await sql.unsafe(text).simple())),
    copyOut: async function* (text, counted = () => undefined) {
      yield* (wire as Wire).rows(async () => {
        const { count } = await guarded(() => sql.unsafe(text).simple())
        counted(count)
        return count
      })
    },
    close: async () => {
      closing = true
      if (wire?.isReading) wire.destroy()
      await sql.end({ timeout: 0 })
    },
    cut: () => wire?.destroy(),
  }
  try {
    await session.rows('select 1')
    // absent before a certain minor version, so they cannot be part of the connection's start
    await session.rows(
      `select set_config(name, case name when 'transaction_timeout' then '0' else 'view, foreign-table' end, false)
       from pg_settings where name in ('transaction_timeout', 'restrict_nonsystem_relation_kind')`,
    )
    return session
  } catch (error) {
    await session.close()
    throw error
  }
}

/** Every option is given, since the client would take missing ones from the environment. */
const FIXED_OPTIONS = {
  max: 1,
  prepare: false,
  fetch_types: false,
  idle_timeout: 0,
  max_lifetime: null,
  connect_timeout: 30,
  keep_alive: 60,
  max_pipeline: 1,
  backoff: false,
  debug: false,
  publications: 'none',
} as const

/** The client is given its connection, and neither makes nor secures one. */
const serverOf = (address: Address) => ({
  user: address.user,
  database: address.database,
  password: () => address.password?.reveal() ?? '',
  ssl: false as const,
})

function placeOf(address: Address): Place {
  const { host, port } = address
  if (host.startsWith('/')) return { host: 'localhost', port, path: `${host}/.s.PGSQL.${port}`, tls: false }
  return { host, port, tls: tlsOptions(address) }
}

function tlsOptions(address: Address): Place['tls'] {
  const { mode, rootCert, cert, key } = address.tls
  if (mode === 'disable') return false
  if (mode === 'prefer' && !cert) return 'prefer'
  const files = {
    ...(rootCert && rootCert !== 'system' ? { ca: readFileSync(rootCert) } : {}),
    ...(cert ? { cert: readFileSync(cert) } : {}),
    ...(key ? { key: readFileSync(key) } : {}),
  }
  // of an address instead of a name, the client would compare the certificate with `localhost`
  if (mode === 'verify-full') {
    const { checkServerIdentity } = process.getBuiltinModule('node:tls')
    return { ...files, checkServerIdentity: (_: string, peer: PeerCertificate) => checkServerIdentity(address.host, peer) }
  }
  if (mode === 'verify-ca') return { ...files, checkServerIdentity: () => undefined }
  // as libpq: a root certificate makes `require` verify the chain
  if (rootCert) return { ...files, checkServerIdentity: () => undefined }
  return { ...files, rejectUnauthorized: false }
}

async function endOnServer(address: Address, applicationName: string, run: Run): Promise<void> {
  const mine = `from pg_stat_activity where application_name = $1 and pid <> pg_backend_pid()`
  try {
    const session = await openSession(address)
    try {
      // a backend that has just begun may show up late, so ask until none is left
      for (let round = 0; round < 50; round++) {
        await session.rows(`select pg_terminate_backend(pid) ${mine}`, [applicationName])
        const left = await session.rows<{ left: number }>(`select count(*)::int as left ${mine}`, [applicationName])
        if (left[0]?.left === 0) return
        await run.clock.sleep(100)
      }
    } finally {
      await session.close()
    }
  } catch (error) {
    // the sockets are closed right after this, which ends all but a session that waits for a lock
    run.log.warn({ err: error }, 'sessions could not be ended on the server')
  }
}
