import type { Secret } from '../../shared/secret.ts'

/**
 * Guards the fleet's own secrets (authority, signing key, identity): the catalog keeps what `protect` returns, and only
 * the service can open it. Small secrets, at most 64 KiB; a handful of calls at a start.
 *
 * Contract (contract.ts proves it for every kind):
 * - `reveal(name, protect(name, s))` is `s`; the same secret protected twice gives different values;
 * - the name is bound: what was protected under one name does not open under another;
 * - anything that was changed, or was protected by another service, throws `key_missing` or `object_damaged`, never
 *   returns other bytes;
 * - a value protected before the service's key changed still opens; `rotate` returns it under the current key;
 * - all calls may be repeated and made in parallel.
 */
export interface KeyService {
  readonly kind: string
  /** True when the key lies on this node alone, so that a second control plane would not have it. */
  readonly local: boolean
  protect(name: string, secret: Secret<Buffer>): Promise<Protected>
  reveal(name: string, value: Protected): Promise<Secret<Buffer>>
  rotate(name: string, value: Protected): Promise<Protected>
}

/** Opaque to everyone but the service; printable; may be stored in clear. */
export type Protected = Readonly<Record<string, string>>

export const MAX_SECRET_BYTES = 64 * 1024
