import { HoldfastError } from '../../shared/errors.ts'
import { actorOf, type Operations } from '../api/operations.ts'
import { getBackup, listBackups, setPinned } from '../catalog/backups.ts'
import { lastAgentNamed } from '../catalog/identity-agents.ts'
import { forceEnd } from '../catalog/job-reports.ts'
import { createJob, getJob, listJobs, requestCancel } from '../catalog/jobs.ts'
import { tombstone } from '../catalog/removal.ts'
import type { ControlPlane } from './control-plane.ts'
import { type JobNews, jobEvents, jobLogs } from './job-events.ts'
import { startBackup } from './start-backup.ts'
import { startTestRestore, startVerify, validateNow } from './start-check.ts'
import { startRestore } from './start-restore.ts'
import { lockedKeys, unlockJob } from './unlock-job.ts'
import { viewBackup, viewJob, viewPage } from './views.ts'

type JobOperations = Pick<
  Operations,
  | 'startBackup'
  | 'listBackups'
  | 'getBackup'
  | 'deleteBackup'
  | 'pinBackup'
  | 'startRestore'
  | 'validateBackup'
  | 'startVerify'
  | 'startTestRestore'
  | 'listJobs'
  | 'getJob'
  | 'cancelJob'
  | 'forceJob'
  | 'lockedKeys'
  | 'unlockJob'
  | 'jobEvents'
  | 'jobLogs'
  | 'discover'
>

/** Backups and jobs as an operator reaches them. */
export function jobOperations(cp: ControlPlane, news: JobNews): JobOperations {
  const { db } = cp.catalog
  const backupView = (backup: Parameters<typeof viewBackup>[0]) => viewBackup(backup, cp.fleet.recipient)
  const jobView = (job: Parameters<typeof viewJob>[0]) => viewJob(job, cp.clock.now())
  return {
    startBackup: async (by, request) => (await startBackup(cp, by, request)).map(jobView),
    listBackups: async (by, filter, page) =>
      viewPage(await listBackups(db, { ...filter, ...page, selectedBy: by.sources }), backupView),
    getBackup: async (_by, id) => backupView(await getBackup(db, id)),
    deleteBackup: async (_by, id) => {
      await deleteBackup(cp, id)
      return backupView(await getBackup(db, id))
    },
    pinBackup: async (by, id, pinned) => {
      await setPinned(db, id, pinned ? actorOf(by) : null, cp.clock.now())
      return backupView(await getBackup(db, id))
    },
    startRestore: async (by, id, request) => jobView(await startRestore(cp, by, id, request)),
    validateBackup: async (by, id) => {
      const answer = await validateNow(cp, by, id)
      return 'job' in answer ? { job: jobView(answer.job) } : answer
    },
    startVerify: async (by, id, request) => jobView(await startVerify(cp, by, id, request)),
    startTestRestore: async (by, id, request) => jobView(await startTestRestore(cp, by, id, request)),
    listJobs: async (by, filter, page) => {
      const { status, unfinished, ...rest } = filter
      const query = {
        ...rest,
        ...page,
        state: status,
        finished: unfinished === undefined ? undefined : !unfinished,
        selectedBy: by.sources,
      }
      return viewPage(await listJobs(db, query), jobView)
    },
    getJob: async (_by, id) => jobView(await getJob(db, id)),
    cancelJob: async (by, id, reason) => {
      await requestCancel(db, id, reason ?? `${actorOf(by)} asked for it`, cp.clock.now())
      cp.wake()
      return jobView(await getJob(db, id))
    },
    forceJob: async (_by, id) => {
      await forceEnd(db, id, cp.clock.now())
      cp.wake()
      return jobView(await getJob(db, id))
    },
    lockedKeys: (_by, id) => lockedKeys(cp, id),
    unlockJob: async (by, id, request) => jobView(await unlockJob(cp, by, id, request)),
    jobEvents: (_by, id, options) => jobEvents(cp, news, id, options),
    jobLogs: (_by, id, page) => jobLogs(cp, id, page),
    discover: async (by, agentName) => jobView(await startDiscover(cp, actorOf(by), agentName)),
  }
}

/** The last good backup of a source is never removed, by hand neither. */
async function deleteBackup(cp: ControlPlane, id: string): Promise<void> {
  await tombstone(cp.catalog.db, id, 'an operator asked for it', cp.clock.now(), { keepLastGood: true })
  cp.wake()
}

const DISCOVER_SECONDS = 300

async function startDiscover(cp: ControlPlane, requestedBy: string, agentName: string) {
  const agent = await lastAgentNamed(cp.catalog.db, agentName)
  if (agent?.state !== 'active') {
    throw new HoldfastError('not_found', `there is no active agent named ${agentName}`, {
      hint: 'List the agents with `holdfast agents`.',
    })
  }
  const job = {
    spec: { kind: 'discover' },
    agentId: agent.id,
    requestedBy,
    maxAttempts: 1,
    deadlineSeconds: DISCOVER_SECONDS,
  } as const
  const { id } = await createJob(cp.catalog.db, job, cp.clock.now())
  cp.wake()
  return getJob(cp.catalog.db, id)
}
