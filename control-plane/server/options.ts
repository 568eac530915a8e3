import type { Clock } from '../../shared/clock.ts'
import type { Logger } from '../../shared/log.ts'
import type { Secret } from '../../shared/secret.ts'
import type { TargetConfig } from '../../shared/storage/config.ts'
import type { RouteAccess } from '../api/access.ts'
import type { CatalogConfig } from '../catalog/open.ts'
import type { Policy } from '../domain/policy.ts'
import type { ListenAddress } from '../fleet/servers.ts'
import type { FleetSettings } from '../fleet/settings.ts'
import type { Rebuild } from './rebuild.ts'

/** A control plane's configuration, compiled: units resolved, nothing left to look up. */
export interface ServerOptions {
  /** Folder of what lies beside the catalog: keyring, sealed keys, first admin key. */
  readonly home: string
  readonly catalog: CatalogConfig
  readonly listen: {
    readonly api: ListenAddress
    readonly agents: ListenAddress
    readonly enrolment: ListenAddress
    readonly objects: ListenAddress
    readonly tls?: { readonly cert: string; readonly key: Secret }
  }
  /** Host names and addresses by which agents reach this control plane; the first one is printed in invitations. */
  readonly hosts: readonly string[]
  readonly targets: Readonly<Record<string, TargetConfig>>
  /** Where backups go that no policy sends elsewhere. */
  readonly defaultTarget: string
  readonly recoveryRecipients: readonly string[]
  readonly keyring: { readonly path: string; readonly shared: boolean }
  readonly limits: {
    readonly parallelJobsPerAgent: number
    readonly parallelJobs: number
    readonly jobDeadlineSeconds: number
    readonly maxAttempts: number
    /** How long a job waits for an operator to unlock what it reads. */
    readonly unlockSeconds: number
    /** Between the decision to remove a backup and the destruction of its keys. */
    readonly graceSeconds: number
  }
  /** Set: the catalog is made again from the self-backup and the targets. */
  readonly rebuild?: Rebuild
  /** A policy that has to be there, for every source: what the older BACKUP_* variables ask for. */
  readonly policy?: { readonly name: string; readonly spec: Policy }
  readonly metricsFor: 'anyone' | 'viewer'
  /** Instead of api/access.ts: for tests that ask faster than an operator may. */
  readonly access?: Readonly<Record<string, RouteAccess>>
  readonly fleetSettings?: Partial<FleetSettings>
  readonly clock: Clock
  readonly log: Logger
}

export const DEFAULT_LIMITS: ServerOptions['limits'] = {
  parallelJobsPerAgent: 2,
  parallelJobs: 50,
  jobDeadlineSeconds: 24 * 3600,
  maxAttempts: 3,
  unlockSeconds: 2 * 3600,
  graceSeconds: 24 * 3600,
}
