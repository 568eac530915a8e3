import { asHoldfastError, isHoldfastError } from '../../shared/errors.ts'
import type { Logger } from '../../shared/log.ts'
import { appendAudit } from '../catalog/audit.ts'
import { type BackupView, backupsOfSource } from '../catalog/backups.ts'
import type { Catalog, Db } from '../catalog/catalog.ts'
import { listPolicies } from '../catalog/policies.ts'
import { retire, tombstone } from '../catalog/removal.ts'
import { fullName, listSources, type SourceRow } from '../catalog/sources.ts'
import { policySchema, selectsSource } from '../domain/policy.ts'
import { mergePlans, planRetention, type RetainedBackup, type RetentionPlan } from '../domain/retention.ts'

export interface RetentionDeps {
  readonly catalog: Catalog
  readonly log: Logger
}

export interface SourcePlan {
  readonly source: SourceRow
  readonly plan: RetentionPlan
  /** Those that the plan speaks of, oldest first. */
  readonly backups: readonly BackupView[]
}

/**
 * What retention would do now: the value that is shown is the one that is carried out. Sources that no policy with a retention
 * selects are not in it, and lose nothing.
 */
export async function planCleanup(db: Db, now: Date): Promise<SourcePlan[]> {
  // a policy that cannot be read stops everything: it may be the one that keeps what others would remove
  const policies = (await listPolicies(db)).map((row) => policySchema.parse(row.spec)).filter((policy) => policy.retention)
  if (policies.length === 0) return []
  const plans: SourcePlan[] = []
  for (const source of await listSources(db)) {
    const rules = policies.filter((policy) => selectsSource(policy.select, source))
    if (rules.length === 0) continue
    const backups = (await backupsOfSource(db, source.id)).filter((backup) => stateOf(backup) !== null)
    const retained = backups.flatMap(retainedOf)
    const plan = mergePlans(
      rules.map((policy) =>
        planRetention({
          rule: policy.retention ?? {},
          timezone: policy.schedule?.timezone ?? 'UTC',
          backups: retained,
          now,
          fallAcceptedAt: source.fallAcceptedAt,
        }),
      ),
    )
    plans.push({ source, plan, backups })
  }
  return plans
}

function stateOf(backup: BackupView): RetainedBackup['status'] | null {
  if (backup.tombstonedAt !== null) return null
  if (backup.status === 'running' || backup.status === 'good') return backup.status
  return backup.retiredAt === null ? null : 'retired'
}

function retainedOf(backup: BackupView): RetainedBackup[] {
  const status = stateOf(backup)
  // `valid` is the judgement of the control plane or of another agent (catalog/verifications.ts), never of the host itself
  return status === null ? [] : [{ ...backup, status, verified: backup.valid === true, pinned: backup.pinnedAt !== null }]
}

/**
 * Carries the plan out as far as the catalog goes: what is to go is marked, audited in the same transaction, and can be neither
 * restored nor leaned on from then on; its objects follow after the grace period (destroy-backups.ts). What came into use since the
 * plan was made stays. Returns the plans.
 */
export async function applyRetention(deps: RetentionDeps, by: string, now: Date): Promise<SourcePlan[]> {
  const plans = await planCleanup(deps.catalog.db, now)
  for (const { source, plan } of plans) {
    for (const hold of plan.held)
      deps.log.warn({ source: fullName(source), code: hold.code }, `nothing is removed: ${hold.message}`)
    // first: what they lean on becomes free with them
    for (const id of plan.retire) await step(deps, id, (tx) => retireAudited(tx, id, by, now))
    for (const { id, reason } of plan.remove) await step(deps, id, (tx) => removeAudited(tx, id, reason, by, now, true))
  }
  return plans
}

async function step(deps: RetentionDeps, id: string, change: (tx: Db) => Promise<void>): Promise<void> {
  try {
    await deps.catalog.transaction(change)
  } catch (error) {
    if (isHoldfastError(error, 'backup_in_use'))
      deps.log.info({ backup: id, reason: error.message }, 'a backup that retention would remove is in use')
    else deps.log.error({ err: asHoldfastError(error), backup: id }, 'a backup could not be marked for removal')
  }
}

/** Marks one backup for removal, with its entry in the audit trail. Throws `backup_in_use`. */
export async function removeAudited(
  tx: Db,
  id: string,
  reason: string,
  by: string,
  now: Date,
  keepLastGood: boolean,
): Promise<void> {
  if (!(await tombstone(tx, id, reason, now, { keepLastGood }))) return
  await appendAudit(tx, { actor: by, action: 'backup.remove', subject: id, outcome: 'done', detail: { reason } }, now)
}

async function retireAudited(tx: Db, id: string, by: string, now: Date): Promise<void> {
  if (!(await retire(tx, id, now))) return
  const detail = { reason: 'kept only because something leans on it' }
  await appendAudit(tx, { actor: by, action: 'backup.expire', subject: id, outcome: 'done', detail }, now)
}
