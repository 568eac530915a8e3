import { HoldfastError } from '../../../shared/errors.ts'

export type TlsMode = 'disable' | 'prefer' | 'require' | 'verify-ca' | 'verify-full'
const TLS_MODES: readonly string[] = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full']

/** What a connection address says; what it leaves out is undefined. Names are decoded and may be any text. */
export interface ConnectionUrl {
  /** A name, an address, or the folder of a Unix socket. */
  readonly host?: string
  readonly port?: number
  readonly user?: string
  readonly password?: string
  readonly database?: string
  readonly sslMode?: TlsMode
  readonly sslRootCert?: string
  readonly sslCert?: string
  readonly sslKey?: string
}

const FORM = /^postgres(?:ql)?:\/\/(?:([^@/?#]*)@)?([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/
const PARAMETERS = ['host', 'port', 'user', 'password', 'dbname', 'sslmode', 'sslrootcert', 'sslcert', 'sslkey'] as const

/**
 * libpq's own form of an address (PostgreSQL 18, 32.1.1.2), where the host may be missing or a socket's folder, which
 * the WHATWG parser refuses. Errors never repeat the address: it may hold a password.
 */
export function parseConnectionUrl(text: string): ConnectionUrl {
  const match = FORM.exec(text.trim())
  if (!match) throw refuse('is not of the form postgres://user@host:port/database')
  const [, login = '', place = '', database = '', query = ''] = match
  const colon = login.indexOf(':')
  const parameters = parameterMap(query)
  const { host, port } = splitPlace(place)
  const portText = parameters.get('port') ?? port
  const sslMode = parameters.get('sslmode')
  if (sslMode !== undefined && !TLS_MODES.includes(sslMode)) throw refuse(`has an sslmode other than ${TLS_MODES.join(', ')}`)
  return {
    host: orUndefined(parameters.get('host') ?? decode(host)),
    port: portText === undefined || portText === '' ? undefined : parsePort(portText),
    user: orUndefined(parameters.get('user') ?? decode(colon < 0 ? login : login.slice(0, colon))),
    password: parameters.get('password') ?? (colon < 0 ? undefined : decode(login.slice(colon + 1))),
    database: orUndefined(parameters.get('dbname') ?? decode(database)),
    sslMode: sslMode as TlsMode | undefined,
    sslRootCert: parameters.get('sslrootcert'),
    sslCert: parameters.get('sslcert'),
    sslKey: parameters.get('sslkey'),
  }
}

/** The address of a database, for people to paste; never with a password. */
export function formatConnectionUrl(url: { host: string; port: number; user: string; database: string }): string {
  const socket = url.host.startsWith('/')
  const host = socket ? '' : url.host.includes(':') ? `[${url.host}]` : url.host
  const query = socket ? `?host=${encodeURIComponent(url.host).replaceAll('%2F', '/')}&port=${url.port}` : ''
  const place = socket ? '' : `${host}:${url.port}`
  return `postgres://${encodeURIComponent(url.user)}@${place}/${encodeURIComponent(url.database)}${query}`
}

function parameterMap(query: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const pair of query.split('&').filter((text) => text !== '')) {
    const equals = pair.indexOf('=')
    const name = equals < 0 ? pair : pair.slice(0, equals)
    if (!(PARAMETERS as readonly string[]).includes(name)) throw refuse(`has a parameter other than ${PARAMETERS.join(', ')}`)
    found.set(name, decode(equals < 0 ? '' : pair.slice(equals + 1)))
  }
  return found
}

function splitPlace(place: string): { host: string; port: string | undefined } {
  if (place.includes(',')) throw refuse('names several hosts: name the one to back up, or an address that follows the primary')
  const bracketed = /^\[([^\]]+)\](?::(\d*))?$/.exec(place)
  if (bracketed) return { host: bracketed[1] ?? '', port: bracketed[2] }
  const colon = place.lastIndexOf(':')
  return colon < 0 ? { host: place, port: undefined } : { host: place.slice(0, colon), port: place.slice(colon + 1) }
}

function parsePort(text: string): number {
  const port = Number(text)
  if (!/^\d{1,5}$/.test(text) || port < 1 || port > 65535) throw refuse('has a port that is no number from 1 to 65535')
  return port
}

function decode(text: string): string {
  let decoded: string
  try {
    decoded = decodeURIComponent(text)
  } catch {
    throw refuse('has a percent sign that is not followed by two hexadecimal digits of UTF-8')
  }
  if (decoded.includes('\0')) throw refuse('holds a NUL')
  return decoded
}

const orUndefined = (text: string) => (text === '' ? undefined : text)

function refuse(why: string): HoldfastError {
  return new HoldfastError('invalid_config', `the connection address ${why}`, {
    hint: 'Write it as postgres://user@host:5432/database, or postgres://user@/database?host=/run/postgresql for a Unix socket.',
  })
}
