import { createHash, timingSafeEqual } from 'node:crypto'
import { TLSSocket } from 'node:tls'
import type { Dispatcher } from 'undici'
import buildConnector from 'undici/lib/core/connect.js'
import Agent from 'undici/lib/dispatcher/agent.js'
import { HoldfastError } from '../../shared/errors.ts'
import { trustedRoots } from '../../shared/roots.ts'

const CONNECT_MS = 10_000
/** Neither a byte sent nor one received for so long: the connection is given up. */
const SILENCE_MS = 60_000

/** Kept-alive connections, apart for each certificate that is expected: one made for a pin never carries another's requests. */
export class Connections {
  readonly #agents = new Map<string, Agent>()

  /** `pin` is the SHA-256 of the server's certificate; empty: the usual roots vouch for it. */
  for(pin: Buffer): Dispatcher {
    const name = pin.toString('hex')
    const known = this.#agents.get(name)
    if (known) return known
    const agent = new Agent({
      connect: pin.length > 0 ? pinned(pin) : usual(),
      connections: 16,
      pipelining: 1,
      headersTimeout: SILENCE_MS,
      bodyTimeout: SILENCE_MS,
      keepAliveTimeout: 20_000,
    })
    this.#agents.set(name, agent)
    return agent
  }

  /** Cuts what is under way. */
  async close(): Promise<void> {
    const agents = [...this.#agents.values()]
    this.#agents.clear()
    await Promise.all(agents.map((agent) => agent.destroy()))
  }
}

function usual(): buildConnector.connector {
  let connect: buildConnector.connector | undefined
  // the roots are read when the first connection needs them: most agents of a local target never do
  return (options, callback) => {
    connect ??= buildConnector({ timeout: CONNECT_MS, minVersion: 'TLSv1.2', ca: [...trustedRoots()] })
    connect(options, callback)
  }
}

/** Exactly this certificate, whoever signed it; nothing is sent before it was compared. */
function pinned(pin: Buffer): buildConnector.connector {
  // no resumed sessions: those do not show the certificate again
  const connect = buildConnector({ timeout: CONNECT_MS, minVersion: 'TLSv1.2', rejectUnauthorized: false, maxCachedSessions: 0 })
  return (options, callback) => {
    connect(options, (error, socket) => {
      if (error) return callback(error, null)
      const shown = socket instanceof TLSSocket ? socket.getPeerX509Certificate()?.raw : undefined
      if (shown && timingSafeEqual(createHash('sha256').update(shown).digest(), pin)) return callback(null, socket)
      socket?.destroy()
      callback(
        new HoldfastError(
          'pin_mismatch',
          `the object server at ${options.host} shows another certificate than the control plane named`,
          {
            hint: 'Something on the way answers in its place, or its certificate was renewed just now: it is tried again.',
          },
        ),
        null,
      )
    })
  }
}
