import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Clock } from '../../shared/clock.ts'
import type { Logger } from '../../shared/log.ts'
import { portError } from '../../shared/port-error.ts'
import type { Secret } from '../../shared/secret.ts'
import { leavingAsBytesPass } from '../../shared/spare-memory.ts'
import type { LocalTarget } from '../../shared/storage/local/target.ts'
import { MAX_ADDRESS_SECONDS } from '../../shared/storage/target.ts'
import { serveObject } from './serve-object.ts'

/** PEM of the server's key and certificate, given by the fleet's authority. */
export interface ServerIdentity {
  readonly key: Secret
  readonly cert: string
}

export interface LocalServerOptions extends ServerIdentity {
  readonly host: string
  /** 0 for a free one. */
  readonly port: number
  /** The targets that are served, found by the first segment of the path. */
  readonly targets: readonly LocalTarget[]
  /** The same that the targets' signer has. */
  readonly signingKey: Secret<Buffer>
  readonly clock: Clock
  readonly log: Logger
}

export interface LocalServer {
  readonly port: number
  /** For connections from now on. */
  renew(identity: ServerIdentity): void
  /** Takes no more connections, lets what is under way end for up to `graceMs` (10 s), then cuts it: nothing torn is visible. */
  close(graceMs?: number): Promise<void>
}

/** Beyond this many a connection is closed at once; an agent tries again. */
const MAX_CONNECTIONS = 2048
/** A connection that neither sends nor takes a byte for so long is cut. */
const IDLE_MS = 60_000

/**
 * The HTTPS server of the local targets' objects. It knows two things: a PUT and a GET of exactly the object that an address was signed
 * for. No listing, no removal, no replacing. Throws `port_taken`.
 */
export async function startLocalServer(options: LocalServerOptions): Promise<LocalServer> {
  const targets = new Map(options.targets.map((target) => [target.name, target]))
  const passed = leavingAsBytesPass()
  const server = createServer(
    {
      key: options.key.reveal(),
      cert: options.cert,
      minVersion: 'TLSv1.2',
      maxHeaderSize: 8 * 1024,
      // slow senders: all headers within 10 s, the whole request within the life of its address
      headersTimeout: 10_000,
      requestTimeout: MAX_ADDRESS_SECONDS * 1000,
      keepAliveTimeout: 30_000,
      connectionsCheckingInterval: 5_000,
    },
    (request, response) => serveObject(request, response, { ...options, targets, passed }),
  )
  server.maxConnections = MAX_CONNECTIONS
  server.maxHeadersCount = 50
  server.setTimeout(IDLE_MS, (socket) => socket.destroy())
  server.on('tlsClientError', (error) => options.log.debug({ err: error.message }, 'a TLS handshake at the object port failed'))
  await listen(server, options.host, options.port)
  return {
    port: (server.address() as AddressInfo).port,
    renew: (identity) => server.setSecureContext({ key: identity.key.reveal(), cert: identity.cert, minVersion: 'TLSv1.2' }),
    close: (graceMs = 10_000) => close(server, options.clock, graceMs),
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

async function close(server: Server, clock: Clock, graceMs: number): Promise<void> {
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
