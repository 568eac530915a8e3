import { isHoldfastError } from '../../shared/errors.ts'
import { type ClaimedJob, claimJobs } from '../catalog/claim-jobs.ts'
import { lastAgentNamed } from '../catalog/identity-agents.ts'
import { cancelsFor } from '../catalog/jobs.ts'
import { type VerifiedPacks, verifiedPacks } from '../catalog/verified-packs.ts'
import type { Session, ToAgent } from '../fleet/live-session.ts'
import { commandOf } from './command-of.ts'
import type { ControlPlane } from './control-plane.ts'

/** How long an agent may take to have a command in its journal. */
const ACCEPT_SECONDS = 30

/**
 * Takes due jobs for the agents whose streams are held here and sends them out. A command that is lost on the way ends when its
 * agent comes back without it, or by its lease, and is given out again as a further attempt.
 */
export async function dispatchJobs(cp: ControlPlane, sessions: readonly Session[]): Promise<number> {
  const held = new Map(sessions.map((session) => [session.agentId, session]))
  const claimed = await claimJobs(
    cp.catalog.db,
    {
      instanceId: cp.instanceId,
      agentIds: [...held.keys()],
      limits: { perAgent: cp.settings.parallelJobsPerAgent, fleet: cp.settings.parallelJobs },
      recipients: { fleet: cp.fleet.recipient, recovery: cp.fleet.recoveryRecipients },
      leaseUntil: new Date(cp.clock.now().getTime() + ACCEPT_SECONDS * 1000),
    },
    cp.clock.now(),
  )
  for (const job of claimed) {
    const session = held.get(job.job.agentId)
    // a newer stream took the agent over meanwhile: the attempt ends by its lease
    if (!session || session.epoch !== job.epoch) continue
    await deliver(cp, session, { $case: 'jobCommand', value: commandOf(job, await known(cp, session, job)) })
    cp.log.info({ job: job.job.id, kind: job.job.kind, attempt: job.job.attempt, agent: job.job.agentId }, 'job dispatched')
  }
  return claimed.length
}

async function known(cp: ControlPlane, session: Session, job: ClaimedJob) {
  return { originLabels: await originLabels(cp, job), verified: await verified(cp, session, job) }
}

/** Only what a budget is measured by. */
async function verified(cp: ControlPlane, session: Session, { spec, reads }: ClaimedJob): Promise<VerifiedPacks[]> {
  if (spec.kind !== 'verify' || !reads || (spec.older_than_seconds === 0 && spec.share_permille === 1000)) return []
  const ids = [reads.backup, ...reads.leanedOn].map(({ id }) => id)
  return await verifiedPacks(cp.catalog.db, ids, session.agentName, cp.clock.now())
}

async function originLabels(cp: ControlPlane, { reads }: ClaimedJob): Promise<Record<string, string>> {
  if (!reads) return {}
  return (await lastAgentNamed(cp.catalog.db, reads.backup.host))?.labels ?? {}
}

/** Tells the agents held here which of their jobs are to end. Repeated until they have: a lost message costs one round. */
export async function sendCancels(cp: ControlPlane, sessions: readonly Session[]): Promise<void> {
  const held = new Map(sessions.map((session) => [session.agentId, session]))
  for (const job of await cancelsFor(cp.catalog.db, [...held.keys()])) {
    const reason = job.cancelReason ?? 'an operator asked for it'
    const session = held.get(job.agentId)
    if (session) await deliver(cp, session, { $case: 'cancelJob', value: { jobId: job.id, attempt: job.attempt, reason } })
  }
}

/** A stream that ended meanwhile takes nothing: what was to be sent is decided anew for the next one. */
async function deliver(cp: ControlPlane, session: Session, message: ToAgent): Promise<void> {
  try {
    await session.send(message)
  } catch (error) {
    if (!isHoldfastError(error, 'session_superseded')) throw error
    cp.log.info({ agent: session.agentName, message: message.$case }, 'the stream ended before the message went out')
  }
}
