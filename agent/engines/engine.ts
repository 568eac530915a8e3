import type { z } from 'zod'
import type { BackupSink, BackupSource } from '../../shared/artifacts.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Logger } from '../../shared/log.ts'
import type { Finding, Fingerprint, FoundSource, RestorePreview } from '../../shared/results.ts'
import type { Tools } from '../process/tools.ts'

export type BackupKind = 'full' | 'incremental' | 'differential'

/**
 * One kind of data store. contract.ts is the suite that every engine passes.
 *
 * Contract:
 * - `discover`, `preflight`, `preview` and `check` change nothing in the store;
 * - every method may be called in parallel with itself for different plans;
 * - abort (`run.signal`): stop the tool, wait for it to be gone, remove what is half made, then throw the signal's reason;
 * - an error of the store or of a tool becomes a HoldfastError in the engine's own errors.ts; nothing is swallowed;
 * - names out of the store are untrusted: they reach tools by environment, option file or protocol, never by a shell, and
 *   never as an argument that begins with a hyphen;
 * - a secret is never in arguments, logs, findings or errors.
 */
export interface Engine<Config = unknown> {
  readonly kind: string
  /** Of one source in the agent's own configuration; unknown keys are refused; secrets in the type Secret. */
  readonly config: z.ZodType<Config>
  readonly abilities: EngineAbilities
  /** What is on this host, and what the agent may read of it. */
  discover(run: Run): Promise<FoundSource[]>
  /** Printable facts for the source list, without opening more than a connection. */
  describe(config: Config, run: Run): Promise<Record<string, string>>
  preflight(plan: BackupPlan<Config> | RestorePlan<Config>, run: Run): Promise<Finding[]>
  backup(plan: BackupPlan<Config>, sink: BackupSink, run: Run): Promise<Fingerprint>
  /** What a restore would make and replace. */
  preview(plan: RestorePlan<Config>, source: BackupSource, run: Run): Promise<RestorePreview>
  /**
   * Into `plan.targetName` (or the source's own place). What exists is refused with `source_exists` unless
   * `plan.overwrite`; overwriting restores beside and swaps at the end, so that a failure leaves what was there.
   * `run.fenced` is asked right before the swap: when it throws, nothing is swapped.
   */
  restore(plan: RestorePlan<Config>, source: BackupSource, run: Run): Promise<void>
  /** The same text for every way to name one place, whichever source and name lead to it: no two restores write one place at once. */
  placeKey(place: Place<Config>): Promise<string>
  /** Counts the store's content the way `backup` does. */
  count(place: Place<Config>, run: Run): Promise<Fingerprint>
  /** Compares; empty when all agree. Codes: `count_mismatch`, `part_missing`, `part_unexpected`, `db_integrity_check_failed`. */
  check(place: Place<Config>, expected: Fingerprint, run: Run): Promise<Finding[]>
  /** A throw-away place beside the source for test restores. `dispose` removes it and may be called twice. */
  sandbox(config: Config, run: Run): Promise<Sandbox<Config>>
}

/** Differences between engines are data. */
export interface EngineAbilities {
  readonly kinds: readonly BackupKind[]
  /** What `parts` names: "schema.table", "path" ...; null when only the whole can be chosen. */
  readonly parts: string | null
  readonly mapping: boolean
  readonly tenants: boolean
  readonly pointInTime: boolean
  /** A restore over what exists: beside and swap, or never. */
  readonly overwrite: 'swap' | 'refuse'
}

export interface BackupPlan<Config> {
  readonly action: 'backup'
  readonly config: Config
  readonly type: BackupKind
  readonly parts: readonly string[]
}

export interface Place<Config> {
  /** Connection and settings of the source by way of which the place is reached. */
  readonly config: Config
  /** Name of the database, folder or file beside the source's own; null: the source itself. */
  readonly targetName: string | null
  /**
   * A restore has made it: all that it holds is counted. What the source's configuration leaves out of backups may have changed since, or
   * be that of another source by way of which it was restored.
   */
  readonly restored?: boolean
}

export interface RestorePlan<Config> extends Place<Config> {
  readonly action: 'restore'
  readonly parts: readonly string[]
  /** Old name to new one. Empty where `abilities.mapping` is false. */
  readonly mapping: Readonly<Record<string, string>>
  readonly overwrite: boolean
}

export interface Sandbox<Config> {
  readonly place: Place<Config>
  dispose(): Promise<void>
}

/** What a run of an engine may use. */
export interface Run {
  readonly signal: AbortSignal
  readonly log: Logger
  readonly clock: Clock
  readonly tools: Tools
  /** An empty folder of the job's own, mode 0700, removed afterwards: for pipes and small files, never for a dump. */
  readonly scratch: string
  finding(finding: Finding): void
  progress(delta: ProgressDelta): void
  /** Throws when this attempt may no longer write (its lease ended or it was cancelled). */
  fenced(): void
}

/** Numbers are what has been added since the last call; `phase` replaces the one before. */
export interface ProgressDelta {
  readonly phase?: string
  readonly totalBytes?: number
  readonly objectsDone?: number
  readonly objectsTotal?: number
  readonly writtenBytes?: number
}
