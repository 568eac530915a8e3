import type { X509Certificate } from 'node:crypto'
import { connect, type TLSSocket } from 'node:tls'
import type { Clock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { CONTROL_PLANE_NAME } from '../../shared/x509/control-plane-name.ts'
import { isIssuedBy, pinOf, samePin, timeOf } from '../../shared/x509/read.ts'
import { type Address, addressText } from './address.ts'

const PROBE_MS = 20_000

/**
 * Shakes hands and sends nothing. Returns the PEM certificate of the authority whose fingerprint is `pin`, when the server's
 * own certificate was issued by it for a control plane. Throws `pin_mismatch`, `clock_skew` or `control_plane_unreachable`.
 */
export async function authorityByPin(address: Address, pin: string, clock: Clock): Promise<string> {
  const socket = await shakeHands(address, { rejectUnauthorized: false }, clock)
  try {
    const chain = peerChain(socket)
    const authority = chain.find((certificate) => samePin(pinOf(certificate), pin))
    const leaf = chain[0]
    if (!leaf || !authority || !isIssuedBy(leaf, authority) || !leaf.checkHost(CONTROL_PLANE_NAME)) {
      throw new HoldfastError('pin_mismatch', `${addressText(address)} does not show the fingerprint ${pin}`, {
        hint: 'Nothing was sent. Check the address and the pin of the invitation; if both are right, somebody stands in between.',
      })
    }
    if (timeOf(leaf, clock.now()) !== 'valid') throw clockSkew(leaf, clock)
    return `${authority.toString().trim()}\n`
  } finally {
    socket.destroy()
  }
}

/** Leaf first, as the server sent it. */
function peerChain(socket: TLSSocket): X509Certificate[] {
  const chain: X509Certificate[] = []
  let at = socket.getPeerX509Certificate()
  while (at && chain.length < 5) {
    chain.push(at)
    const issuer = at.issuerCertificate
    at = issuer && !issuer.raw.equals(at.raw) ? issuer : undefined
  }
  return chain
}

/** What a certificate-time failure says to a person. */
export function clockSkew(leaf: X509Certificate, clock: Clock, serverClock?: Date): HoldfastError {
  const times = `${leaf.validFromDate.toISOString()} to ${leaf.validToDate.toISOString()}`
  const other = serverClock ? `, the control plane's clock ${serverClock.toISOString()}` : ''
  return new HoldfastError(
    'clock_skew',
    `suspected clock skew: the control plane's certificate is valid from ${times}, this host's clock says ${clock.now().toISOString()}${other}`,
    { hint: "Set this host's clock (for example with NTP) and try again." },
  )
}

export type Diagnosis =
  | { readonly kind: 'open' }
  /** The handshake was fine and the connection was closed: the control plane does not take this agent's certificate. */
  | { readonly kind: 'refused' }
  | { readonly kind: 'server-time'; readonly leaf: X509Certificate }
  | { readonly kind: 'other-authority' }
  | { readonly kind: 'unreachable'; readonly reason: string }

export interface ClientCredentials {
  readonly authorityPem: string
  readonly chainPem: string
  readonly privateKeyPem: string
}

/** Why a connection fails. gRPC says only that it does: this shakes hands with the same credentials and looks. */
export async function diagnose(address: Address, own: ClientCredentials, clock: Clock): Promise<Diagnosis> {
  let socket: TLSSocket
  try {
    socket = await shakeHands(
      address,
      { rejectUnauthorized: false, ca: own.authorityPem, cert: own.chainPem, key: own.privateKeyPem },
      clock,
    )
  } catch (error) {
    const cause = (error as Error).cause
    const reason = cause instanceof Error ? cause.message : String(error)
    return /ALERT|alert/.test(reason) ? { kind: 'refused' } : { kind: 'unreachable', reason }
  }
  try {
    const leaf = socket.getPeerX509Certificate()
    const time = leaf && timeOf(leaf, clock.now())
    if (leaf && time !== 'valid' && peerChain(socket).some((certificate) => isIssuedBy(leaf, certificate))) {
      return { kind: 'server-time', leaf }
    }
    if (!socket.authorized) return { kind: 'other-authority' }
    return (await speaks(socket, clock)) ? { kind: 'open' } : { kind: 'refused' }
  } finally {
    socket.destroy()
  }
}

/** An HTTP/2 server speaks first (its settings); one that refuses the client's certificate closes instead (TLS 1.3). */
async function speaks(socket: TLSSocket, clock: Clock): Promise<boolean> {
  const timer = new AbortController()
  const spoke = new Promise<boolean>((resolve) => {
    socket.once('data', () => resolve(true))
    socket.once('error', () => resolve(false))
    socket.once('close', () => resolve(false))
  })
  const silent = clock.sleep(PROBE_MS, timer.signal).then(
    () => false,
    () => false,
  )
  const result = await Promise.race([spoke, silent])
  timer.abort()
  return result
}

async function shakeHands(
  address: Address,
  options: { rejectUnauthorized: boolean; ca?: string; cert?: string; key?: string },
  clock: Clock,
): Promise<TLSSocket> {
  const socket = connect({
    host: address.host,
    port: address.port,
    servername: CONTROL_PLANE_NAME,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.2',
    ...options,
  })
  const timer = new AbortController()
  const late = clock.sleep(PROBE_MS, timer.signal).then(
    () => socket.destroy(new Error(`no answer within ${PROBE_MS / 1000} s`)),
    () => undefined,
  )
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve)
      socket.once('error', reject)
      socket.once('close', () => reject(new Error('the connection was closed during the handshake')))
    })
    // from here on a reset is somebody's answer, not a crash
    socket.on('error', () => undefined)
    return socket
  } catch (cause) {
    socket.destroy()
    throw unreachable(address, cause)
  } finally {
    timer.abort()
    await late
  }
}

function unreachable(address: Address, cause: unknown): HoldfastError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new HoldfastError('control_plane_unreachable', `${addressText(address)} cannot be reached: ${reason}`, {
    hint: 'Check the address, the name resolution and the firewall between this host and the control plane.',
    cause,
  })
}
