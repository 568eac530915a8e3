import { createHash, timingSafeEqual } from 'node:crypto'
import { lstatSync, statSync } from 'node:fs'
import path from 'node:path'
import type { TLSSocket } from 'node:tls'
import buildConnector from 'undici/lib/core/connect.js'
import Agent from 'undici/lib/dispatcher/agent.js'
import { HoldfastError } from '../../shared/errors.ts'
import { trustedRoots } from '../../shared/roots.ts'
import { underFlag } from '../../shared/v8-flags.mjs'
import type { Address } from './address.ts'
import type { Way } from './request.ts'

const CONNECT_MS = 10_000
/** Neither a byte sent nor one received for so long: the connection is given up. */
export const SILENCE_MS = 60_000
const OTHERS_WRITE = 0o022

/** Kept-alive connections, apart for each certificate that is expected: one made for a pin never carries another's requests. */
export class Connections {
  readonly #agents = new Map<string, Agent>()
  /** Sockets that are not there, are not this user's, or that nobody answers at: a control plane that starts again has another. */
  readonly #refused = new Set<string>()

  /** By the control plane's own socket where this host has it, else over the network. */
  to({ origin, pin, localSocket }: Address): Way {
    if (localSocket !== null && this.#answers(localSocket)) {
      const connect = () => overSocket(localSocket, () => void this.#refused.add(localSocket))
      return { dispatcher: this.#agent(localSocket, connect), origin: 'http://localhost', onThisHost: true }
    }
    // the SHA-256 of the server's certificate; empty: the usual roots vouch for it
    return { dispatcher: this.#agent(pin.toString('hex'), pin.length > 0 ? () => pinned(pin) : usual), origin, onThisHost: false }
  }

  #answers(socket: string): boolean {
    if (!this.#refused.has(socket) && !this.#agents.has(socket) && !isOurs(socket)) this.#refused.add(socket)
    return !this.#refused.has(socket)
  }

  #agent(name: string, connect: () => buildConnector.connector): Agent {
    const known = this.#agents.get(name)
    if (known) return known
    const agent = new Agent({
      connect: withoutTierUp(connect()),
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

/** Bytes of machine code that a function of WebAssembly runs before it is compiled again. */
const TIER_UP = { flag: '--wasm-tiering-budget=2147483647', usual: '--wasm-tiering-budget=13000000' } as const

/**
 * undici reads answers by WebAssembly, which it compiles for its first connection. A few answers would be enough for V8 to compile the largest function again, the better way: 80 ms of a processor and
 * 8 MB, where a job asks some dozens of times. That comes after a hundred times as many.
 */
function withoutTierUp(connect: buildConnector.connector): buildConnector.connector {
  return (options, callback) => connect(options, (...connected) => underFlag(TIER_UP, () => callback(...connected)))
}

/**
 * Another host's is not here. One that another user made, or could put something in the place of, is not used: a link there may lead to a socket at which this agent's rights are
 * more than theirs.
 */
function isOurs(socket: string): boolean {
  try {
    const folder = statSync(path.dirname(socket))
    const file = lstatSync(socket)
    const user = process.geteuid?.()
    return file.isSocket() && file.uid === user && folder.uid === user && (folder.mode & OTHERS_WRITE) === 0
  } catch {
    return false
  }
}

function overSocket(socketPath: string, onFailed: () => void): buildConnector.connector {
  const connect = buildConnector({ timeout: CONNECT_MS, socketPath })
  return (options, callback) => {
    connect(options, (error, socket) => {
      if (!error) return callback(null, socket)
      onFailed()
      callback(error, null)
    })
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
      // by what it can do: its class would be loaded for jobs too that have no use for TLS
      const shown = 'getPeerX509Certificate' in socket ? (socket as TLSSocket).getPeerX509Certificate()?.raw : undefined
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
