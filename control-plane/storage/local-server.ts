import type { Server as PlainServer, RequestListener } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Clock } from '../../shared/clock.ts'
import type { Logger } from '../../shared/log.ts'
import { portError } from '../../shared/port-error.ts'
import type { Secret } from '../../shared/secret.ts'
import { leavingAsBytesPass } from '../../shared/spare-memory.ts'
import type { LocalTarget } from '../../shared/storage/local/target.ts'
import { listenAtSocket } from './local-socket.ts'
import { serveObject } from './serve-object.ts'
import { bound, SERVER_OPTIONS } from './server-bounds.ts'

/** PEM of the server's key and certificate, given by the fleet's authority. */
export interface ServerIdentity {
  readonly key: Secret
  readonly cert: string
}

export interface LocalServerOptions extends ServerIdentity {
  readonly host: string
  /** 0 for a free one. */
  readonly port: number
  /** Where it makes a Unix socket for agents on this host: a folder that nobody else may read. None without. */
  readonly socketFolder?: string
  /** The targets that are served, found by the first segment of the path. */
  readonly targets: readonly LocalTarget[]
  /** The same that the targets' signer has. */
  readonly signingKey: Secret<Buffer>
  readonly clock: Clock
  readonly log: Logger
}

export interface LocalServer {
  readonly port: number
  /** Path of its Unix socket. */
  readonly socket: string | null
  /** For connections from now on. */
  renew(identity: ServerIdentity): void
  /** Takes no more connections, lets what is under way end for up to `graceMs` (10 s), then cuts it: nothing torn is visible. */
  close(graceMs?: number): Promise<void>
}

/**
 * The server of the local targets' objects, over HTTPS and at a Unix socket. It knows two things: a PUT and a GET of exactly the object that an address was signed
 * for. No listing, no removal, no replacing. Throws `port_taken`.
 */
export async function startLocalServer(options: LocalServerOptions): Promise<LocalServer> {
  const targets = new Map(options.targets.map((target) => [target.name, target]))
  const passed = leavingAsBytesPass()
  const answer = (tellsFiles: boolean): RequestListener => {
    return (request, response) => void serveObject(request, response, { ...options, targets, passed, tellsFiles })
  }
  const tls = { key: options.key.reveal(), cert: options.cert, minVersion: 'TLSv1.2' } as const
  const server = bound(createServer({ ...tls, ...SERVER_OPTIONS }, answer(false)))
  server.on('tlsClientError', (error) => options.log.debug({ err: error.message }, 'a TLS handshake at the object port failed'))
  await listen(server, options.host, options.port)
  const local = options.socketFolder ? await listenAtSocket(options.socketFolder, answer(true), options.log) : null
  return {
    port: (server.address() as AddressInfo).port,
    socket: local?.path ?? null,
    renew: (identity) => server.setSecureContext({ key: identity.key.reveal(), cert: identity.cert, minVersion: 'TLSv1.2' }),
    close: async (graceMs = 10_000) => {
      const servers = local ? [server, local.server] : [server]
      await Promise.all(servers.map((one) => close(one, options.clock, graceMs)))
    },
  }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(portError("the local target's objects", { host, port }, '--agent-port or `listen`', error))
    })
    server.listen({ host, port }, () => resolve())
  })
}

async function close(server: PlainServer | Server, clock: Clock, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  server.closeIdleConnections()
  const patience = new AbortController()
  const cut = clock.sleep(graceMs, patience.signal).then(
    () => server.closeAllConnections(),
    () => undefined,
  )
  await closed
  patience.abort()
  await cut
}
