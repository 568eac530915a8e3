import type { Clock } from '../../shared/clock.ts'
import type { JobCommand } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import type { Logger } from '../../shared/log.ts'
import type { Finding } from '../../shared/results.ts'
import type { SourceConfig } from '../config/sources.ts'
import type { Run } from '../engines/engine.ts'
import type { Transfer } from '../transfer/transfer.ts'
import type { JobStart, ParentCalls, PlainProgress } from './messages.ts'

/** What the work of one job has at hand, in its child process. */
export interface JobContext {
  readonly command: JobCommand
  readonly start: JobStart
  readonly parent: ParentCalls
  readonly signal: AbortSignal
  readonly objects: Transfer
  readonly clock: Clock
  readonly log: Logger
  /** For engines: the same signal, findings, progress, fence. */
  readonly run: Run
  /** Merges into the job's progress; sent at most four times a second. */
  report(change: Partial<PlainProgress>): void
  /** What was reported so far. */
  totals(): PlainProgress
  finding(finding: Finding): void
  /** Compiles a source of agent.yaml. */
  source(name: string): SourceConfig
}
