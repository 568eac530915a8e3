import type { Readable } from 'node:stream'

/**
 * One place where objects lie. Keys are relative to the target (its bucket prefix or folder is the target's own
 * affair), of the characters [A-Za-z0-9._/-], without "." or ".." segments; anything else throws `invalid_name`.
 *
 * Contract (contract.ts proves it for every kind):
 * - an object is whole or absent, never torn; a put never replaces an object (`If-None-Match: *`);
 * - a put of an object that is there with the same size and SHA-256 succeeds; with others it throws `object_conflict`;
 * - all calls may be repeated and made in parallel; `signal` ends a call with the signal's reason;
 * - a listing may lag: nothing is believed because it was listed, only because `head` or `get` says so;
 * - errors: `object_missing`, `object_conflict`, `object_damaged` (body and checksum differ), `target_denied`,
 *   `target_unreachable` (retry), `disk_full`, `address_expired`.
 */
export interface StorageTarget {
  readonly name: string
  readonly kind: string
  /** What the service was found to do at set-up. */
  readonly facts: TargetFacts
  /** An address for one PUT of exactly this size and SHA-256. At most MAX_OBJECT_BYTES. */
  signPut(key: string, object: { size: number; sha256: Buffer }): Promise<SignedAddress>
  /** An address for one GET, the whole object or ranges of it as the caller's Range header says. */
  signGet(key: string): Promise<SignedAddress>
  /**
   * With `sha256` a body that does not match it is refused (`object_damaged`). `overwrite` is for `holdfast.json` and its like alone.
   * `lockUntil`: nobody can remove or change it before then, where the facts say `objectLock`.
   */
  put(
    key: string,
    body: Buffer,
    options?: { sha256?: Buffer; overwrite?: boolean; lockUntil?: Date; signal?: AbortSignal },
  ): Promise<void>
  /**
   * The whole object (at most MAX_OBJECT_BYTES, else `too_large`) or exactly the range asked for; one that is not all there throws
   * `object_damaged`. `length` is at least 1; without it up to the end.
   */
  get(key: string, options?: { offset?: number; length?: number; signal?: AbortSignal }): Promise<Buffer>
  /** For objects that may be large. */
  getStream(key: string, options?: { signal?: AbortSignal }): Promise<Readable>
  /** Null when absent. `sha256` is null when the service keeps none. */
  head(key: string, signal?: AbortSignal): Promise<ObjectHead | null>
  /** In key order. A prefix is a whole number of segments and ends with "/" or is empty. */
  list(prefix: string, signal?: AbortSignal): AsyncIterable<ListedObject>
  /** Removes it, with every version where the service keeps versions. Absent is not an error. */
  remove(key: string, signal?: AbortSignal): Promise<void>
  /** Writes, writes again, writes a wrong body under a right checksum, reads a range, lists, removes. Updates `facts`. */
  probe(signal?: AbortSignal): Promise<TargetFacts>
  close(): Promise<void>
}

export interface TargetFacts {
  /** A second put of a key is refused by the service itself. */
  readonly conditionalPut: boolean
  /** A body that does not match its SHA-256 is refused by the service itself. */
  readonly checksumOnPut: boolean
  /** `head` answers with the SHA-256. */
  readonly checksumOnHead: boolean
  readonly versioned: boolean
  readonly objectLock: boolean
  readonly region: string | null
}

export interface SignedAddress {
  readonly method: 'GET' | 'PUT'
  readonly url: string
  /** Each has to be sent exactly so, and no other that the service would bind. */
  readonly headers: Readonly<Record<string, string>>
  readonly validSeconds: number
  /** SHA-256 of the server's certificate (DER) where it is the control plane's own; else undefined. */
  readonly serverCertificateSha256?: Buffer
  /** Path of a Unix socket of the control plane that answers the same to who finds it. */
  readonly localSocket?: string
}

export interface ObjectHead {
  readonly size: number
  readonly sha256: Buffer | null
  readonly modified: Date
}

export interface ListedObject extends Pick<ObjectHead, 'size' | 'modified'> {
  readonly key: string
}

/** One PUT, no multipart. */
export const MAX_OBJECT_BYTES = 64 * 1024 * 1024
/** The longest life of a signed address. */
export const MAX_ADDRESS_SECONDS = 15 * 60
