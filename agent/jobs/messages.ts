import type { ErrorCode } from '../../shared/errors.ts'
import type {
  AskUnlockResponse,
  CommitBackupResponse,
  ObjectToGet,
  ObjectToPut,
  OpenBackupsResponse,
  SignGetsResponse,
  SignPutsResponse,
} from '../../shared/generated/holdfast/agent/v1/objects.ts'
import type { Facts } from '../../shared/manifest/manifest.ts'
import type { BackupDetail, Finding } from '../../shared/results.ts'
import type { Direction, PlainLimits } from './limits.ts'

/**
 * What the agent and the child process of one job say to each other, over Node's own channel (structured clone). The child never
 * talks to the control plane: it asks its parent, which has the one connection and the identity.
 */

export interface JobStart {
  readonly type: 'start'
  /** Encoded JobCommand. */
  readonly command: Uint8Array
  readonly agent: {
    readonly name: string
    readonly fleetId: string
    readonly verifyingKey: string
    readonly ageIdentity: string
    readonly ageRecipient: string
    readonly labels: Readonly<Record<string, string>>
    readonly restoresFrom: readonly string[]
    readonly offlineLimitMs: number
    readonly logLevel: string
  }
  /** Sources of agent.yaml as they stand, uncompiled: the child compiles the ones it needs. */
  readonly sources: Readonly<Record<string, unknown>>
  readonly folders: { readonly scratch: string; readonly known: string; readonly places: string }
  readonly searchPath: string
  /** Only for backups. */
  readonly keys: { readonly dataKey: Uint8Array; readonly gearKey: Uint8Array } | null
  readonly earlier: ReadonlyArray<{ readonly attempt: number; readonly dataKey: Uint8Array }>
  /** What these stored (stored-packs.ts): read by the child itself, since it may be any amount. */
  readonly packsFile: string
  /** The age identity of a job that has to be unlocked. */
  readonly jobKey: string | null
  readonly leaseMs: number
  readonly limits: PlainLimits
}

export interface PlainPack {
  readonly name: string
  readonly size: number
  readonly sha256: Uint8Array
  readonly chunks: Uint8Array
}

export type ToChild =
  | JobStart
  | { readonly type: 'cancel'; readonly error: PlainError }
  /** The attempt may go on writing for so long from now; sent with each sign of life from the control plane. */
  | { readonly type: 'lease'; readonly remainingMs: number }
  | { readonly type: 'limits'; readonly limits: PlainLimits }
  | { readonly type: 'answer'; readonly call: number; readonly value: unknown }
  | { readonly type: 'error'; readonly call: number; readonly error: PlainError }

export type FromChild =
  | { readonly type: 'call'; readonly call: number; readonly method: keyof ParentCalls; readonly argument: unknown }
  | { readonly type: 'progress'; readonly progress: PlainProgress }
  | { readonly type: 'finding'; readonly finding: Finding }
  | { readonly type: 'log'; readonly level: string; readonly message: string }
  | { readonly type: 'result'; readonly result: PlainResult }

/** Calls of the child that its parent makes for it. */
export interface ParentCalls {
  signPuts(objects: ObjectToPut[]): Promise<SignPutsResponse>
  signGets(objects: ObjectToGet[]): Promise<SignGetsResponse>
  askUnlock(recipient: string): Promise<AskUnlockResponse>
  openBackups(recipient: string): Promise<OpenBackupsResponse>
  /** Signs the facts with the agent's identity and offers them, with the job's answer. */
  commitBackup(offer: { facts: Facts; detail: BackupDetail }): Promise<CommitBackupResponse>
  packStored(pack: PlainPack): Promise<null>
  /** Resolves when so many bytes may go over the line, which all jobs of the agent share. */
  take(share: { direction: Direction; bytes: number }): Promise<null>
}

export interface PlainError {
  readonly code: ErrorCode
  readonly message: string
  readonly hint?: string
  readonly retry: boolean
  /** Of the object that it is about. */
  readonly key?: string
}

export interface PlainProgress {
  readonly phase: string
  readonly readBytes: number
  readonly storedBytes: number
  readonly skippedBytes: number
  readonly writtenBytes: number
  readonly objectsDone: number
  readonly objectsTotal: number
  readonly totalBytes: number
  readonly chunks: number
  readonly chunksSkipped: number
}

export interface PlainResult {
  readonly outcome: 'succeeded' | 'failed' | 'cancelled'
  readonly error: PlainError | null
  readonly detail: unknown
  readonly progress: PlainProgress
}
