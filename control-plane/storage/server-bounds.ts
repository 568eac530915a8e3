import type { Server } from 'node:http'
import { MAX_ADDRESS_SECONDS } from '../../shared/storage/target.ts'

/** Beyond this many a connection is closed at once; an agent tries again. */
const MAX_CONNECTIONS = 2048
/** A connection that neither sends nor takes a byte for so long is cut. */
const IDLE_MS = 60_000

/** Options of an object server, by TLS or not. */
export const SERVER_OPTIONS = {
  maxHeaderSize: 8 * 1024,
  // slow senders: all headers within 10 s, the whole request within the life of its address
  headersTimeout: 10_000,
  requestTimeout: MAX_ADDRESS_SECONDS * 1000,
  keepAliveTimeout: 30_000,
  connectionsCheckingInterval: 5_000,
} as const

/** What is set once it is made. */
export function bound<S extends Server>(server: S): S {
  server.maxConnections = MAX_CONNECTIONS
  server.maxHeadersCount = 50
  server.setTimeout(IDLE_MS, (socket) => socket.destroy())
  return server
}
