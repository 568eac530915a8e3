import { HoldfastError } from '../../shared/errors.ts'
import type { SignedRequest } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import { isSocketPath } from '../../shared/storage/local/socket-path.ts'

/** A signed request, checked, with the time by which it has to be used. */
export interface Address {
  readonly method: 'PUT' | 'GET'
  readonly origin: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly pin: Buffer
  /** Path of the control plane's socket, to be used where it is found. */
  readonly localSocket: string | null
  /** On the monotonic clock: this host's wall clock may be wrong by days. */
  readonly usableUntilMs: number
}

/** An address is not begun with in its last seconds. */
const MARGIN_MS = 10_000
const LOOPBACK = /^(localhost|127(?:\.\d{1,3}){3}|\[::1\])$/
/** Headers of the connection itself, which no address may set. */
const NOT_SIGNED = new Set(['host', 'connection', 'transfer-encoding', 'expect', 'upgrade', 'te', 'trailer', 'keep-alive'])

/** Checks what the control plane signed: right method, https unless it stays on this machine, no header that redirects it. */
export function requireAddress(signed: SignedRequest, method: 'PUT' | 'GET', what: string, askedAtMs: number): Address {
  const url = URL.canParse(signed.url) ? new URL(signed.url) : null
  const secure = url?.protocol === 'https:' || (url?.protocol === 'http:' && LOOPBACK.test(url.hostname))
  const { serverCertificateSha256: pin, headers, localSocket } = signed
  const pinOk = pin.length === 0 || (pin.length === 32 && url?.protocol === 'https:')
  // only the control plane's own server has one
  const socketOk = localSocket === '' || (pin.length === 32 && isSocketPath(localSocket))
  const headersOk = Object.keys(headers).every((name) => !NOT_SIGNED.has(name.toLowerCase()))
  if (!url || !secure || !pinOk || !socketOk || !headersOk || signed.method !== method || url.username !== '') {
    throw new HoldfastError('target_refused', `the address for ${what} is not one that can be used`, {
      hint: 'Addresses have to begin with https:// unless the store is on this machine; look at the endpoint of the target.',
    })
  }
  const validMs = Math.min(signed.validSeconds, 3600) * 1000
  const usableUntilMs = askedAtMs + Math.max(validMs - MARGIN_MS, validMs / 2)
  return { method, origin: url.origin, url: signed.url, headers, pin, localSocket: localSocket || null, usableUntilMs }
}
