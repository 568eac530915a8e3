import type { Clock } from '../../shared/clock.ts'
import type { Logger } from '../../shared/log.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import type { Catalog } from '../catalog/catalog.ts'
import type { JobView } from '../catalog/jobs.ts'
import type { AuditEvent } from '../domain/audit-chain.ts'
import type { Fleet } from '../fleet/authority.ts'

/** What the use cases stand on. One for each running control plane. */
export interface ControlPlane {
  /** Of this process: claims and leases carry it. */
  readonly instanceId: string
  readonly catalog: Catalog
  readonly clock: Clock
  readonly log: Logger
  readonly fleet: Fleet
  readonly settings: Settings
  /** Throws `not_found` for a name that is not configured. */
  target(name: string): Promise<StorageTarget>
  /** To the audit trail, chained. Never throws: what cannot be written is logged as an error. */
  audit(entry: AuditEvent): Promise<void>
  /** Something may be to do: a job was made, an agent connected. Costs nothing when there is not. */
  wake(): void
  /** A job reached its end here: whoever waits for it, its agent first, is told. */
  finished(job: JobView): void
}

export interface Settings {
  /** Where backups go that no policy sends elsewhere. */
  readonly defaultTarget: string
  readonly parallelJobsPerAgent: number
  readonly parallelJobs: number
  /** How long an attempt lives without a sign of life. */
  readonly leaseSeconds: number
  readonly jobDeadlineSeconds: number
  readonly maxAttempts: number
  /** How long a job waits for an operator to unlock what it reads. */
  readonly unlockSeconds: number
}
