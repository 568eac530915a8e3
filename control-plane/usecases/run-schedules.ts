import { asHoldfastError, isHoldfastError } from '../../shared/errors.ts'
import type { Logger } from '../../shared/log.ts'
import type { Catalog, Db } from '../catalog/catalog.ts'
import { createJob } from '../catalog/jobs.ts'
import { decidedKey, insertOccurrence, lastDecided, setOccurrence } from '../catalog/occurrences.ts'
import { listPolicies, type PolicyRow } from '../catalog/policies.ts'
import { fullName, listSources, type SourceRow } from '../catalog/sources.ts'
import { type Policy, policySchema, selectsSource } from '../domain/policy.ts'
import { type Decision, dueNow } from '../domain/schedule.ts'

/** The part of a control plane that schedules stand on. */
export interface ScheduleDeps {
  readonly catalog: Catalog
  readonly log: Logger
  readonly settings: { readonly maxAttempts: number; readonly jobDeadlineSeconds: number }
  /** A job was queued. */
  wake(): void
}

/**
 * Queues what the policies' schedules say is due at `now`. Safe to call at any time, by any number of control planes: a due time
 * is decided by whoever inserts its row, and the job is queued in that transaction. Returns how many jobs were queued.
 */
export async function runDueSchedules(deps: ScheduleDeps, now: Date): Promise<number> {
  const { db } = deps.catalog
  const rows = await listPolicies(db)
  const policies = rows.flatMap((row) => {
    const { data: policy, error } = policySchema.safeParse(row.spec)
    if (error) deps.log.error({ policy: row.name, err: error }, 'a policy cannot be read: its schedule does not run')
    return policy ? [{ row, policy }] : []
  })
  if (!policies.some(({ policy }) => policy.schedule)) return 0
  const sources = await listSources(db, { present: true })
  const decided = await lastDecided(db)
  let queued = 0
  for (const { row, policy } of policies) {
    for (const source of sources) {
      if (!policy.schedule || !selectsSource(policy.select, source)) continue
      const upTo = latest([decided.get(decidedKey(row.name, source.id)), row.scheduleSince, source.createdAt])
      const decision = dueNow(policy.schedule, source.id, upTo, now)
      try {
        if (await carryOut(deps, { row, policy, source, decision }, now)) queued++
      } catch (error) {
        // one source must not keep the others from their backups
        deps.log.error(
          { err: asHoldfastError(error), policy: row.name, source: fullName(source) },
          'a schedule could not be carried out',
        )
      }
    }
  }
  if (queued > 0) deps.wake()
  return queued
}

interface Task {
  readonly row: PolicyRow
  readonly policy: Policy
  readonly source: SourceRow
  readonly decision: Decision
}

async function carryOut(deps: ScheduleDeps, task: Task, now: Date): Promise<boolean> {
  const { fire, missed, outside } = task.decision
  if (!fire && outside.length === 0) return false
  const key = { policy: task.row.name, sourceId: task.source.id }
  return await deps.catalog.transaction(async (tx) => {
    for (const due of outside) await insertOccurrence(tx, { ...key, ...due, outcome: 'skipped-window' }, now)
    for (const due of missed) await insertOccurrence(tx, { ...key, ...due, outcome: 'missed' }, now)
    if (outside.length > 0)
      deps.log.warn({ ...key, source: fullName(task.source), count: outside.length }, 'runs were too late for their window')
    // another control plane was first
    if (!fire || !(await insertOccurrence(tx, { ...key, ...fire, outcome: 'fired' }, now))) return false
    const jobId = await queue(deps, tx, task, fire.type, now)
    await setOccurrence(tx, { ...key, ...fire }, jobId ? 'fired' : 'skipped-overlap', jobId)
    return jobId !== null
  })
}

/** Null: the source's last backup is not finished. */
async function queue(
  deps: ScheduleDeps,
  tx: Db,
  task: Task,
  type: 'full' | 'incremental' | 'differential',
  now: Date,
): Promise<string | null> {
  const { source, policy, row } = task
  try {
    const job = await createJob(
      tx,
      {
        spec: { kind: 'backup', type, target: policy.targets[0] },
        agentId: source.agentId,
        sourceId: source.id,
        requestedBy: `schedule:${row.name}`,
        policy: row.name,
        maxAttempts: deps.settings.maxAttempts,
        deadlineSeconds: deps.settings.jobDeadlineSeconds,
      },
      now,
    )
    return job.id
  } catch (error) {
    if (!isHoldfastError(error, 'overlap')) throw error
    deps.log.warn(
      { policy: row.name, source: fullName(source) },
      'a scheduled backup is left out: the one before is not finished',
    )
    return null
  }
}

function latest(times: readonly (Date | undefined)[]): Date {
  return new Date(Math.max(...times.map((time) => time?.getTime() ?? 0)))
}
