import { HoldfastError } from '../../shared/errors.ts'
import { actorOf, type Caller } from '../api/operations.ts'
import type { StartTestRestore, StartVerify, ValidationView } from '../api/schemas/backups.ts'
import { type BackupView, getBackup } from '../catalog/backups.ts'
import { lastAgentNamed } from '../catalog/identity-agents.ts'
import { connectedAgents } from '../catalog/identity-sessions.ts'
import { createJob, getJob, type JobView } from '../catalog/jobs.ts'
import { objectCount } from '../catalog/ledger.ts'
import { findSource, fullName, listSources, type SourceRow } from '../catalog/sources.ts'
import type { JobSpecInput } from '../domain/job-spec.ts'
import type { ControlPlane } from './control-plane.ts'
import { recordValidation } from './record-verification.ts'
import { validateBackup } from './validate-backup.ts'

/** An operator waits so long for a check, and is given its job then. */
const NOW_MS = 10_000
/** With more looks than these it is not even tried. */
const OBJECTS_AT_ONCE = 2000

/** A check made now, or the job that makes it where it would take long. */
export async function validateNow(
  cp: ControlPlane,
  by: Caller,
  id: string,
): Promise<{ validation: ValidationView } | { job: JobView }> {
  const backup = await getBackup(cp.catalog.db, id)
  if (backup.status !== 'good') throw notGood(backup)
  const startedAt = cp.clock.now()
  const many = (await objectCount(cp.catalog.db, [backup.id, ...backup.leansOn])) > OBJECTS_AT_ONCE
  const validation = many ? null : await withinTime(cp, (signal) => validateBackup(cp, backup, signal))
  if (!validation) {
    const source = await findSource(cp.catalog.db, `${backup.host}/${backup.source}`)
    return { job: await queue(cp, by, { kind: 'validate', backup_id: id }, { agentId: source.agentId, sourceId: source.id }) }
  }
  await recordValidation(cp, backup, validation, { startedAt, jobId: null })
  return { validation }
}

/** Null when the time is over. What is then broken off is no finding: it has advice to try again. */
async function withinTime<T>(cp: ControlPlane, work: (signal: AbortSignal) => Promise<T>): Promise<T | null> {
  const over = new AbortController()
  const done = new AbortController()
  const reason = new HoldfastError('deadline_exceeded', 'the check takes longer than an operator waits', { retry: true })
  cp.clock.sleep(NOW_MS, done.signal).then(
    () => over.abort(reason),
    // it was done in time
    () => undefined,
  )
  try {
    return await work(over.signal)
  } catch (error) {
    if (over.signal.aborted) return null
    throw error
  } finally {
    done.abort()
  }
}

/** Every byte read back: by the host named, else by another than the one that made the backup, since only that counts as verified. */
export async function startVerify(cp: ControlPlane, by: Caller, id: string, request: StartVerify): Promise<JobView> {
  const backup = await getBackup(cp.catalog.db, id)
  const agentId = request.on === undefined ? await judge(cp, backup) : await agentNamed(cp, request.on)
  const spec = {
    kind: 'verify',
    backup_id: id,
    older_than_seconds: request.older_than_seconds,
    share_permille: Math.round(request.share_percent * 10),
    plan_only: request.dry_run,
  } as const
  return queue(cp, by, spec, { agentId, sourceId: null })
}

/** Into a throw-away place beside a source of the same engine: the one named, else the backup's own. */
export async function startTestRestore(cp: ControlPlane, by: Caller, id: string, request: StartTestRestore): Promise<JobView> {
  const backup = await getBackup(cp.catalog.db, id)
  const via = request.via === undefined ? await sandboxSource(cp, backup) : await findSource(cp.catalog.db, request.via)
  if (via.engine !== backup.engine) {
    throw new HoldfastError(
      'invalid_argument',
      `${fullName(via)} is a ${via.engine} source; the backup is of engine ${backup.engine}`,
      {
        hint: `Choose a ${backup.engine} source.`,
      },
    )
  }
  const spec = { kind: 'test-restore', backup_id: id, via_source: via.name } as const
  return queue(cp, by, spec, { agentId: via.agentId, sourceId: via.id })
}

async function queue(
  cp: ControlPlane,
  by: Caller,
  spec: JobSpecInput,
  on: { agentId: string; sourceId: string | null },
): Promise<JobView> {
  const job = await createJob(
    cp.catalog.db,
    {
      ...on,
      spec,
      requestedBy: actorOf(by),
      maxAttempts: cp.settings.maxAttempts,
      deadlineSeconds: cp.settings.jobDeadlineSeconds,
    },
    cp.clock.now(),
  )
  cp.wake()
  return getJob(cp.catalog.db, job.id)
}

const ALIVE_MS = 60_000

async function connected(cp: ControlPlane): Promise<Set<string>> {
  return connectedAgents(cp.catalog.db, ALIVE_MS)
}

async function judge(cp: ControlPlane, backup: BackupView): Promise<string> {
  const alive = await connected(cp)
  const sources = await listSources(cp.catalog.db)
  const other = sources.find((source) => source.host !== backup.host && alive.has(source.agentId))
  return other?.agentId ?? (await agentNamed(cp, backup.host))
}

async function sandboxSource(cp: ControlPlane, backup: BackupView): Promise<SourceRow> {
  return findSource(cp.catalog.db, `${backup.host}/${backup.source}`)
}

async function agentNamed(cp: ControlPlane, name: string): Promise<string> {
  const agent = await lastAgentNamed(cp.catalog.db, name)
  if (agent?.state === 'active') return agent.id
  throw new HoldfastError('not_found', `there is no active agent named ${name}`, {
    hint: 'List the agents with `holdfast agents`.',
  })
}

const notGood = (backup: BackupView): HoldfastError =>
  new HoldfastError('backup_invalid', `backup ${backup.id} is ${backup.status}, not good`, {
    hint: 'Choose a good backup; `holdfast list` shows the state of each.',
  })
