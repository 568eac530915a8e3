import type { ApiKeyView, AuditCheckView, AuditFilter, AuditView, CreateApiKey, NewApiKeyView, Role } from './schemas/access.ts'
import type { AgentView, InvitationView, InviteAgent, SourceView } from './schemas/agents.ts'
import type {
  BackupFilter,
  BackupView,
  CleanupView,
  StartBackup,
  StartRestore,
  StartTestRestore,
  StartVerify,
  ValidationView,
} from './schemas/backups.ts'
import type { Page, PageRequest } from './schemas/common.ts'
import type { FleetBody, FleetDiffView, PolicyView, TargetView } from './schemas/fleet.ts'
import type { JobEventView, JobFilter, JobView, LogView } from './schemas/jobs.ts'
import type { AddRecovery, FleetKeysView, StatusView, SystemTestView } from './schemas/system.ts'
import type { LockedKeysView, UnlockJob } from './schemas/unlock.ts'

/**
 * Every use case that an operator can reach, as the routes call it. The routes have checked the request's shape, the
 * caller's role and, where the request or the answer names a source, the caller's selector (api/scope.ts).
 *
 * Contract:
 * - lists hold only what `by.sources` selects (domain/source-pattern.ts); `startBackup` with `all` too;
 * - a thing that does not exist throws `not_found`; an id is always complete here (the command line completes it);
 * - errors are HoldfastErrors; anything else is answered as `internal`, its text kept to the log;
 * - what was started is in the catalog when the promise resolves: a lost answer loses no job.
 */
export interface Operations {
  /** One job a source, in the order named. No source named: the only one there is, else `invalid_argument`. */
  startBackup(by: Caller, request: StartBackup): Promise<JobView[]>
  /** Newest first. */
  listBackups(by: Caller, filter: BackupFilter, page: PageRequest): Promise<Page<BackupView>>
  getBackup(by: Caller, id: string): Promise<BackupView>
  /** Decided now, removed in the background. `backup_in_use` while something leans on it or it is pinned. */
  deleteBackup(by: Caller, id: string): Promise<BackupView>
  pinBackup(by: Caller, id: string, pinned: boolean): Promise<BackupView>
  startRestore(by: Caller, id: string, request: StartRestore): Promise<JobView>
  /** A check made now, or the job that makes it when it will take 10 seconds or more. */
  validateBackup(by: Caller, id: string): Promise<{ validation: ValidationView } | { job: JobView }>
  startVerify(by: Caller, id: string, request: StartVerify): Promise<JobView>
  startTestRestore(by: Caller, id: string, request: StartTestRestore): Promise<JobView>
  /** What retention would remove. Changes nothing. */
  previewCleanup(by: Caller): Promise<CleanupView>
  cleanup(by: Caller): Promise<CleanupView>
  /** A sharp fall that holds retention is as it should be: from here on it goes on. */
  acceptFall(by: Caller, source: string): Promise<SourceView>

  /** Newest first. */
  listJobs(by: Caller, filter: JobFilter, page: PageRequest): Promise<Page<JobView>>
  getJob(by: Caller, id: string): Promise<JobView>
  /** Asked for; the job ends by itself within seconds. One that is finished throws `job_state`. */
  cancelJob(by: Caller, id: string, reason: string | undefined): Promise<JobView>
  /** Takes the risk that a lost attempt still writes: the job goes on, or ends, without its agent's word. Only a lost one (`job_state`). */
  forceJob(by: Caller, id: string): Promise<JobView>
  /** The sealed key files of what a job waits to have unlocked, and the key that they are to be sealed to. `job_state` when it does not wait. */
  lockedKeys(by: Caller, id: string): Promise<LockedKeysView>
  /** Data keys sealed to the job's key, for its agent. Once; `conflict` when they are for another key. */
  unlockJob(by: Caller, id: string, request: UnlockJob): Promise<JobView>
  /**
   * Events with an id above `after`, then live ones; the first is the present progress, the last the final state, then it
   * ends. Abort ends it without an error.
   */
  jobEvents(by: Caller, id: string, options: { after: number; signal: AbortSignal }): AsyncIterable<JobEventView>
  /** Oldest first. */
  jobLogs(by: Caller, id: string, page: PageRequest): Promise<Page<LogView>>

  listAgents(by: Caller, options: { all: boolean }, page: PageRequest): Promise<Page<AgentView>>
  inviteAgent(by: Caller, request: InviteAgent): Promise<InvitationView>
  revokeAgent(by: Caller, name: string, reason: string | undefined): Promise<AgentView>
  /** A job whose detail is what the agent found on its host. */
  discover(by: Caller, agentName: string): Promise<JobView>
  listSources(by: Caller, filter: { engine?: string | undefined }, page: PageRequest): Promise<Page<SourceView>>

  listTargets(by: Caller, page: PageRequest): Promise<Page<TargetView>>
  listPolicies(by: Caller, page: PageRequest): Promise<Page<PolicyView>>
  diffFleet(by: Caller, file: FleetBody): Promise<FleetDiffView>
  /** All or nothing. A new target is probed first; one that holds backups is not removed. */
  applyFleet(by: Caller, file: FleetBody): Promise<FleetDiffView>

  listApiKeys(by: Caller, page: PageRequest): Promise<Page<ApiKeyView>>
  createApiKey(by: Caller, request: CreateApiKey): Promise<NewApiKeyView>
  revokeApiKey(by: Caller, id: string): Promise<ApiKeyView>
  fleetKeys(by: Caller): Promise<FleetKeysView>
  /** From now on backups and the fleet's own secrets are sealed to this recipient as well. */
  addRecovery(by: Caller, request: AddRecovery): Promise<FleetKeysView>
  /** Newest first. */
  listAudit(by: Caller, filter: AuditFilter, page: PageRequest): Promise<Page<AuditView>>
  verifyAudit(by: Caller): Promise<AuditCheckView>

  /** Is everything that a backup needs in order? Reaches targets and agents; changes nothing that stays. */
  systemTest(by: Caller): Promise<SystemTestView>
  status(by: Caller): Promise<StatusView>
}

/** Who asks: an API key that was valid a moment ago. */
export interface Caller {
  readonly keyId: string
  readonly keyName: string
  readonly role: Role
  /** Patterns of host/name; empty: all. */
  readonly sources: readonly string[]
}

/** As it stands in the audit trail and in `requested_by`. */
export function actorOf(caller: Caller): string {
  return `key:${caller.keyName}`
}
