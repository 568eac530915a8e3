import { HoldfastError } from '../../shared/errors.ts'
import { actorOf, type Caller } from '../api/operations.ts'
import type { StartBackup } from '../api/schemas/backups.ts'
import { createJob, getJob, type JobView } from '../catalog/jobs.ts'
import { getTarget, listPolicies } from '../catalog/policies.ts'
import { findSource, fullName, listSources, type SourceRow } from '../catalog/sources.ts'
import { policySchema, selectsSource } from '../domain/policy.ts'
import { selects } from '../domain/source-pattern.ts'
import type { ControlPlane } from './control-plane.ts'
import { refuseTenant } from './refuse-tenant.ts'

/** One job a source, in the order named. A source whose last backup is not finished is refused with `overlap`, before any is queued. */
export async function startBackup(cp: ControlPlane, by: Caller, request: StartBackup): Promise<JobView[]> {
  const sources = await chosenSources(cp, by, request)
  for (const source of sources) refuseTenant(source.engine, request.tenant_id)
  const targetOf = await targetsOfSources(cp)
  const targets = await Promise.all(sources.map(async (source) => (await getTarget(cp.catalog.db, targetOf(source))).name))
  const now = cp.clock.now()
  const ids = await cp.catalog.transaction(async (tx) => {
    const made: string[] = []
    for (const [index, source] of sources.entries()) {
      const spec = {
        kind: 'backup',
        type: request.type,
        target: targets[index] ?? cp.settings.defaultTarget,
        parts: request.dataset_ids,
        dry_run: request.dry_run,
        description: request.description ?? null,
      } as const
      const job = await createJob(
        tx,
        {
          spec,
          agentId: source.agentId,
          sourceId: source.id,
          requestedBy: actorOf(by),
          maxAttempts: cp.settings.maxAttempts,
          deadlineSeconds: cp.settings.jobDeadlineSeconds,
        },
        now,
      )
      made.push(job.id)
    }
    return made
  })
  cp.wake()
  return Promise.all(ids.map((id) => getJob(cp.catalog.db, id)))
}

/**
 * Where the schedule of a source's policy stores it, so that a backup by hand leans on those made by schedule and they on it; the
 * default target for a source that no policy selects.
 */
async function targetsOfSources(cp: ControlPlane): Promise<(source: SourceRow) => string> {
  const policies = (await listPolicies(cp.catalog.db)).map((row) => policySchema.parse(row.spec))
  return (source) => policies.find((policy) => selectsSource(policy.select, source))?.targets[0] ?? cp.settings.defaultTarget
}

async function chosenSources(cp: ControlPlane, by: Caller, request: StartBackup): Promise<SourceRow[]> {
  if (request.sources) return Promise.all(request.sources.map((name) => presentSource(cp, name)))
  const present = await listSources(cp.catalog.db, { present: true })
  const mine = present.filter((source) => selects(by.sources, fullName(source)))
  if (mine.length === 0) {
    throw new HoldfastError('invalid_argument', 'there is no source to back up', {
      hint: 'Let a host join with `holdfast agents invite` and add a source there with `holdfast-agent source add`.',
    })
  }
  if (request.all || mine.length === 1) return mine
  throw new HoldfastError('invalid_argument', `there are ${mine.length} sources and none was named`, {
    hint: `Name one of ${mine.slice(0, 10).map(fullName).join(', ')}, or back up all of them (--all, or "all": true over HTTP).`,
  })
}

async function presentSource(cp: ControlPlane, name: string): Promise<SourceRow> {
  const source = await findSource(cp.catalog.db, name)
  if (source.present) return source
  throw new HoldfastError('source_missing', `source ${name} is no longer in its agent's configuration`, {
    hint: 'Add it there again with `holdfast-agent source add`; its old backups can still be restored.',
  })
}
