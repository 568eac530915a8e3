import { readFile, stat } from 'node:fs/promises'
import { homedir, userInfo } from 'node:os'
import path from 'node:path'
import { HoldfastError } from '../../../shared/errors.ts'
import { Secret } from '../../../shared/secret.ts'
import type { PostgresConfig } from './config.ts'
import { passwordFrom } from './passfile.ts'
import { type ConnectionUrl, parseConnectionUrl, type TlsMode } from './url.ts'

/** Where a database is and how it is reached, with nothing left to guess. */
export interface Address {
  /** A name, an address, or the absolute folder of a Unix socket. */
  readonly host: string
  readonly port: number
  readonly user: string
  readonly database: string
  /** Null for peer authentication, trust and client certificates. */
  readonly password: Secret | null
  readonly tls: Tls
}

export interface Tls {
  readonly mode: TlsMode
  readonly rootCert?: string
  readonly cert?: string
  readonly key?: string
}

const SOCKET_FOLDERS = ['/run/postgresql', '/var/run/postgresql', '/tmp']

/** Reads the files that the configuration names. What is left out is as libpq has it: the user's own name, port 5432, a socket. */
export async function addressOf(config: PostgresConfig): Promise<Address> {
  const given = config.url instanceof Secret ? config.url.reveal() : config.url
  const url = parseConnectionUrl(given ?? (await readSecretFile(config.url_file ?? '')))
  const port = url.port ?? 5432
  const host = url.host ?? (await socketFolder(port))
  const user = url.user ?? userInfo().username
  const database = url.database ?? user
  const password = await passwordOf(config, url, { host, port, database, user })
  const tls: Tls = { mode: url.sslMode ?? 'prefer', rootCert: url.sslRootCert, cert: url.sslCert, key: url.sslKey }
  return { host, port, user, database, password, tls }
}

/** True when nothing leaves the machine on the way to the server. */
export function isLocal(address: Address): boolean {
  return address.host.startsWith('/') || ['localhost', '127.0.0.1', '::1'].includes(address.host)
}

async function passwordOf(
  config: PostgresConfig,
  url: ConnectionUrl,
  at: { host: string; port: number; database: string; user: string },
): Promise<Secret | null> {
  if (config.password) return config.password
  if (config.password_file) return new Secret(await readSecretFile(config.password_file))
  if (url.password !== undefined) return new Secret(url.password)
  if (config.passfile) return passwordFrom(await readSecretFile(config.passfile), at)
  const usual = path.join(homedir(), '.pgpass')
  const found = await stat(usual).catch(() => null)
  // as libpq: a password file that others may read is not used
  if (!found?.isFile() || (found.mode & 0o077) !== 0) return null
  return passwordFrom(await readSecretFile(usual), at)
}

async function readSecretFile(file: string): Promise<string> {
  try {
    const text = await readFile(file, 'utf8')
    if (text.length > 1024 * 1024) throw new Error('it is larger than 1 MiB')
    // the newline that every editor adds is no part of the secret
    return text.replace(/\r?\n$/, '')
  } catch (cause) {
    throw new HoldfastError('invalid_config', `${file} cannot be read`, {
      hint: "Make the file readable for the agent's user and for nobody else, or name another one in the source's configuration.",
      cause,
    })
  }
}

async function socketFolder(port: number): Promise<string> {
  for (const folder of SOCKET_FOLDERS) {
    const socket = await stat(path.join(folder, `.s.PGSQL.${port}`)).catch(() => null)
    if (socket?.isSocket()) return folder
  }
  return 'localhost'
}
