import { HoldfastError } from '../../shared/errors.ts'
import { parseSourceName } from '../../shared/ids.ts'
import { actorOf, type Caller } from '../api/operations.ts'
import type { StartRestore } from '../api/schemas/backups.ts'
import { type BackupView, getBackup } from '../catalog/backups.ts'
import { createJob, getJob, type JobView } from '../catalog/jobs.ts'
import { fullName, listSources, type SourceRow } from '../catalog/sources.ts'
import { selects } from '../domain/source-pattern.ts'
import type { ControlPlane } from './control-plane.ts'
import { refuseTenant } from './refuse-tenant.ts'

interface Destination {
  /** Whose engine and connection are used. */
  readonly via: SourceRow
  /** Empty: the via source itself. */
  readonly targetName: string
}

/** Queues a restore, or with `dry_run` the making of its plan. A backup that did not validate is refused. */
export async function startRestore(cp: ControlPlane, by: Caller, id: string, request: StartRestore): Promise<JobView> {
  const backup = await getBackup(cp.catalog.db, id)
  if (backup.valid === false) {
    throw new HoldfastError('backup_invalid', `backup ${id} is not valid`, {
      hint: 'Look at `holdfast show`, and restore an earlier good backup of the source.',
    })
  }
  refuseTenant(backup.engine, request.target_tenant)
  const to = await destination(cp, backup, request)
  requireVia(by, to.via)
  const job = await createJob(
    cp.catalog.db,
    {
      spec: {
        kind: 'restore',
        backup_id: backup.id,
        via_source: to.via.name,
        target_name: to.targetName,
        parts: request.dataset_ids,
        mapping: request.dataset_mapping,
        overwrite_existing: request.overwrite_existing,
        verify_integrity: request.verify_integrity,
        plan_only: request.dry_run,
      },
      agentId: to.via.agentId,
      sourceId: to.via.id,
      requestedBy: actorOf(by),
      maxAttempts: cp.settings.maxAttempts,
      deadlineSeconds: cp.settings.jobDeadlineSeconds,
      place: `${to.via.host}/${to.targetName || to.via.name}`,
    },
    cp.clock.now(),
  )
  cp.wake()
  return getJob(cp.catalog.db, job.id)
}

/**
 * `host/name`: where that host has a source of the name, it is restored into that; else the name is a new one, made beside a source of
 * the same engine there: the one named by `via`, the one that the backup is of, or the only one.
 */
async function destination(cp: ControlPlane, backup: BackupView, request: StartRestore): Promise<Destination> {
  const target = request.target ?? `${backup.host}/${backup.source}`
  const { host, name } = parseSourceName(target)
  const there = (await listSources(cp.catalog.db, { present: true })).filter((source) => source.host === host)
  if (there.length === 0) {
    throw new HoldfastError('not_found', `host ${host} has no source`, {
      hint: 'Name a host whose agent has connected; `holdfast agents` lists them.',
    })
  }
  const same = there.find((source) => source.name === name)
  if (same && !request.via) return requireEngine(backup, { via: same, targetName: '' })
  const via =
    request.via === undefined ? ownOrOnlyOne(backup, there, host) : there.find((source) => fullName(source) === request.via)
  if (!via) {
    throw new HoldfastError('not_found', `source ${request.via} is not one of host ${host}`, {
      hint: `Name one of ${there.map(fullName).join(', ')}.`,
    })
  }
  return requireEngine(backup, { via, targetName: name === via.name ? '' : name })
}

/** Whoever leaves `via` out uses a source's connection all the same. */
function requireVia(by: Caller, via: SourceRow): void {
  if (selects(by.sources, fullName(via))) return
  throw new HoldfastError('forbidden', `the API key ${JSON.stringify(by.keyName)} may not use the source ${fullName(via)}`, {
    hint: 'Use a key whose sources include the one by way of which the restore goes.',
  })
}

function ownOrOnlyOne(backup: BackupView, there: readonly SourceRow[], host: string): SourceRow {
  const fitting = there.filter((source) => source.engine === backup.engine)
  const own = fitting.find((source) => source.host === backup.host && source.name === backup.source)
  if (own) return own
  const [only] = fitting
  if (only && fitting.length === 1) return only
  const what = fitting.length === 0 ? `no ${backup.engine} source` : `${fitting.length} ${backup.engine} sources`
  throw new HoldfastError('invalid_argument', `host ${host} has ${what} by way of which to restore`, {
    hint:
      fitting.length === 0
        ? `Add a ${backup.engine} source on ${host} first; its connection is used.`
        : `Choose one with --via (via in a request): ${fitting.map(fullName).join(', ')}.`,
  })
}

function requireEngine(backup: BackupView, to: Destination): Destination {
  if (to.via.engine === backup.engine) return to
  throw new HoldfastError(
    'invalid_argument',
    `${fullName(to.via)} is a ${to.via.engine} source; the backup is of engine ${backup.engine}`,
    {
      hint: `Choose a ${backup.engine} source of that host.`,
    },
  )
}
