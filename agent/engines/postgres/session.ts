import { readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { checkServerIdentity as identity, type PeerCertificate } from 'node:tls'
import type postgres from 'postgres'
import { HoldfastError } from '../../../shared/errors.ts'
import { randomBase32 } from '../../../shared/ids.ts'
import type { Run } from '../engine.ts'
import type { Address } from './address.ts'
import { fromServer } from './errors.ts'
import { SESSION_SETTINGS } from './settings.ts'

/**
 * One connection that is never silently made anew: a transaction, its snapshot and its locks are gone with it, and going on
 * without them would be wrong. Queries one after the other.
 */
export interface Session {
  rows<Row>(text: string, parameters?: readonly (string | number | boolean)[]): Promise<Row[]>
  /** Several statements, no parameters, no answer. */
  run(text: string): Promise<void>
  /** What a COPY ... TO STDOUT gives. */
  copyOut(text: string): AsyncIterable<Buffer>
  close(): Promise<void>
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
  // whoever asks for something hears of it
  gone.promise.catch(() => undefined)
  const sql = connect({
    ...serverOf(address),
    ...FIXED_OPTIONS,
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
    copyOut: (text) => copyOut(() => guarded(() => sql.unsafe(text).readable())),
    close: async () => {
      closing = true
      await sql.end({ timeout: 0 })
    },
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

/**
 * When the reader leaves early the rest is read and thrown away: a backend that waits to send does not notice a connection
 * that was given up. What goes this way is small (copy-out.ts reads the tables).
 */
async function* copyOut(begin: () => Promise<Readable>): AsyncGenerator<Buffer> {
  const stream = await begin()
  stream.once('end', () => wake(stream))
  try {
    yield* stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>
  } catch (error) {
    throw fromServer(error)
  } finally {
    if (!stream.readableEnded && !stream.destroyed) {
      const closed = new Promise((resolve) => stream.once('close', resolve))
      stream.resume()
      await closed
    }
  }
}

/**
 * The client (postgres 3.4.9) holds its socket back when a piece fills the buffer, and lets it go when the stream wants more. After the
 * last piece it never does, so the end of the statement may never be read, and the next one hangs.
 */
function wake(stream: Readable): void {
  try {
    stream._read(0)
  } catch {
    // the connection has gone meanwhile: the next statement says so
    return
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

function serverOf(address: Address) {
  const socket = address.host.startsWith('/')
  return {
    host: socket ? 'localhost' : address.host,
    port: address.port,
    ...(socket ? { path: `${address.host}/.s.PGSQL.${address.port}` } : {}),
    user: address.user,
    database: address.database,
    password: () => address.password?.reveal() ?? '',
    ssl: socket ? (false as const) : tlsOptions(address),
  }
}

function tlsOptions(address: Address): boolean | 'prefer' | object {
  const { mode, rootCert, cert, key } = address.tls
  if (mode === 'disable') return false
  if (mode === 'prefer' && !cert) return 'prefer'
  const files = {
    ...(rootCert && rootCert !== 'system' ? { ca: readFileSync(rootCert) } : {}),
    ...(cert ? { cert: readFileSync(cert) } : {}),
    ...(key ? { key: readFileSync(key) } : {}),
  }
  // of an address instead of a name, the client would compare the certificate with `localhost`
  if (mode === 'verify-full')
    return { ...files, checkServerIdentity: (_: string, peer: PeerCertificate) => identity(address.host, peer) }
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
