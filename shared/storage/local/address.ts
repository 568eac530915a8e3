import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Clock } from '../../clock.ts'
import { HoldfastError } from '../../errors.ts'
import type { Secret } from '../../secret.ts'
import { isKey } from '../key.ts'
import { MAX_ADDRESS_SECONDS, MAX_OBJECT_BYTES, type SignedAddress } from '../target.ts'

/** What is needed to sign addresses of a local target: where its HTTPS server is, and the key that both share. */
export interface LocalSigner {
  /** `https://cp.example.com:7445`, without a path. */
  readonly baseUrl: string
  /** 32 bytes or more, random, known to the control planes alone. */
  readonly key: Secret<Buffer>
  /** SHA-256 of the certificate (DER) that the server shows now; a function where it is renewed. */
  readonly serverCertificateSha256: Buffer | (() => Buffer)
  /** Path of the server's Unix socket, where it has one. */
  readonly socket?: string | undefined
  readonly clock: Clock
}

/** Exactly what one address allows. */
export type Allowed =
  | {
      readonly method: 'PUT'
      readonly target: string
      readonly key: string
      readonly size: number
      readonly sha256: Buffer
      readonly expires: number
    }
  | { readonly method: 'GET'; readonly target: string; readonly key: string; readonly expires: number }

/** Every field stands on its own line and none can hold a newline, so that no two permissions read the same. */
function signature(allowed: Allowed, key: Secret<Buffer>): Buffer {
  const put = allowed.method === 'PUT' ? [String(allowed.size), allowed.sha256.toString('hex')] : ['', '']
  const lines = ['holdfast-object-address-1', allowed.method, allowed.target, allowed.key, ...put, String(allowed.expires)]
  return createHmac('sha256', key.reveal()).update(lines.join('\n')).digest()
}

type Asked = { readonly method: 'GET' } | { readonly method: 'PUT'; readonly size: number; readonly sha256: Buffer }

/** `target` and `key` are checked by the caller. */
export function signLocalAddress(target: string, key: string, asked: Asked, signer: LocalSigner): SignedAddress {
  const expires = Math.floor(signer.clock.now().getTime() / 1000) + MAX_ADDRESS_SECONDS
  const allowed: Allowed = { ...asked, target, key, expires }
  const query = new URLSearchParams({ expires: String(expires) })
  if (asked.method === 'PUT') {
    query.set('size', String(asked.size))
    query.set('sha256', asked.sha256.toString('hex'))
  }
  query.set('signature', signature(allowed, signer.key).toString('hex'))
  const pin = signer.serverCertificateSha256
  return {
    method: asked.method,
    url: `${signer.baseUrl}/${target}/${key}?${query}`,
    headers: asked.method === 'PUT' ? { 'content-length': String(asked.size) } : {},
    validSeconds: MAX_ADDRESS_SECONDS,
    serverCertificateSha256: typeof pin === 'function' ? pin() : pin,
    ...(signer.socket ? { localSocket: signer.socket } : {}),
  }
}

/**
 * What a request may do: parsed from its method and its target (path and query), signature and time checked. Throws
 * `forbidden` for anything that was not signed exactly so, `address_expired` after its time.
 */
export function verifyLocalAddress(method: string, requestTarget: string, key: Secret<Buffer>, clock: Clock): Allowed {
  const allowed = parse(method, requestTarget)
  if (!allowed || !timingSafeEqual(signature(allowed.what, key), allowed.signature)) {
    throw new HoldfastError('forbidden', 'the address was not signed for this', { hint: 'Ask the control plane for an address.' })
  }
  requireFresh(allowed.what, clock)
  return allowed.what
}

/** By the server's own clock, at the beginning of a request and again before what it wrote can be seen. */
export function requireFresh(allowed: Allowed, clock: Clock): void {
  if (clock.now().getTime() < allowed.expires * 1000) return
  throw new HoldfastError('address_expired', `the address of object ${allowed.key} has expired`, {
    hint: 'Ask the control plane for a new address.',
  })
}

const PATH = /^\/([a-z0-9][a-z0-9._-]{0,62})\/([A-Za-z0-9._/-]{1,768})$/
const QUERY = /^expires=(\d{1,12})(?:&size=(\d{1,9})&sha256=([0-9a-f]{64}))?&signature=([0-9a-f]{64})$/

/** One spelling only: no percent signs, no order but ours. So nothing can be read in two ways. */
function parse(method: string, requestTarget: string): { what: Allowed; signature: Buffer } | null {
  const [path = '', query = '', ...more] = requestTarget.split('?')
  const place = PATH.exec(path)
  const asked = QUERY.exec(query)
  if (!place || !asked || more.length > 0) return null
  const [, target = '', key = ''] = place
  const [, expires, size, sha256, hex = ''] = asked
  if (!isKey(key)) return null
  const base = { target, key, expires: Number(expires) }
  const signed = Buffer.from(hex, 'hex')
  if (method === 'GET' && size === undefined) return { what: { method, ...base }, signature: signed }
  if (method !== 'PUT' || size === undefined || sha256 === undefined || Number(size) > MAX_OBJECT_BYTES) return null
  return { what: { method, ...base, size: Number(size), sha256: Buffer.from(sha256, 'hex') }, signature: signed }
}
