import type { Clock } from '../../shared/clock.ts'
import type { SignedRequest } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import type { Logger } from '../../shared/log.ts'
import type { ObjectSink, ObjectSource } from '../../shared/repository/repository.ts'
import { Connections } from './connections.ts'
import { Getter } from './get.ts'
import { Putter } from './put.ts'
import { type Pace, unlimited } from './throttle.ts'

export interface ObjectToPut {
  /** Relative to the backup's folder. */
  readonly name: string
  readonly size: number
  readonly sha256: Buffer
}

/**
 * Bytes between this host and the store, by addresses that the control plane signs. Several puts and gets may be under way at once.
 *
 * - A put resolves when the store has confirmed exactly these bytes, be it after a lost reply, and throws `object_conflict` when
 *   others have the name.
 * - Failures that may pass are tried again with growing waits, until `patienceMs` have gone by since the object's first.
 * - An abort ends a call at once with the signal's reason.
 * - Errors besides: `object_missing`, `object_damaged`, `target_denied`, `target_unreachable`, `target_refused`, `disk_full`, and what the two
 *   signing calls throw without advice to retry.
 */
export interface Transfer extends ObjectSink, ObjectSource {
  readonly totals: TransferTotals
  /** Cuts what is under way. */
  close(): Promise<void>
}

export interface TransferTotals {
  /** Bytes of bodies that went over the line, those sent again included. */
  readonly sentBytes: number
  readonly receivedBytes: number
  readonly retries: number
}

export interface TransferOptions {
  /** Answers in the order asked. `alreadyStored` when the store has the object already with that size and SHA-256. */
  signPuts(objects: readonly ObjectToPut[], signal: AbortSignal): Promise<readonly SignedRequest[]>
  signGets(keys: readonly string[], signal: AbortSignal): Promise<readonly SignedRequest[]>
  readonly clock: Clock
  readonly log: Logger
  /** Bodies pass at these; without one, as fast as they go. */
  readonly upload?: Pace
  readonly download?: Pace
  readonly limits?: {
    /** 10 minutes. */
    readonly patienceMs?: number
  }
}

/** What the two directions share. */
export interface Line {
  readonly options: TransferOptions
  readonly connections: Connections
  readonly patienceMs: number
  readonly upload: Pace
  readonly download: Pace
  readonly totals: { sentBytes: number; receivedBytes: number; retries: number }
}

export function createTransfer(options: TransferOptions): Transfer {
  const { limits = {} } = options
  const line: Line = {
    options,
    connections: new Connections(),
    patienceMs: limits.patienceMs ?? 600_000,
    upload: options.upload ?? unlimited,
    download: options.download ?? unlimited,
    totals: { sentBytes: 0, receivedBytes: 0, retries: 0 },
  }
  const putter = new Putter(line)
  const getter = new Getter(line)
  return {
    put: (name, bytes, sha256, signal) => putter.put(name, bytes, sha256, signal),
    get: (key, range, signal) => getter.get(key, range, signal),
    totals: line.totals,
    close: () => line.connections.close(),
  }
}
