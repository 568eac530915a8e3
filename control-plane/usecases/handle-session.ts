import { isHoldfastError } from '../../shared/errors.ts'
import { type Hello, JournalState } from '../../shared/generated/holdfast/agent/v1/session.ts'
import { endUntaken, renewLeases, unheardAttempts } from '../catalog/job-reports.ts'
import { getJob } from '../catalog/jobs.ts'
import { isFinished } from '../domain/job.ts'
import type { AgentMessage, Session, SessionHandler } from '../fleet/live-session.ts'
import type { ControlPlane } from './control-plane.ts'
import { confirm, ignoreFenced, leaseEnd, receiveReport } from './receive-report.ts'
import { reportSources } from './report-sources.ts'

/**
 * What the streams of agents mean to jobs. The leases of exactly those attempts are renewed that the agent has said it has. A command that its
 * journal does not hold when it comes back was never taken, and is given out again; an attempt that it had taken ends by its lease.
 */
export class AgentSessions implements SessionHandler {
  readonly #cp: ControlPlane
  readonly #attempts = new Map<Session, Map<string, number>>()

  constructor(cp: ControlPlane) {
    this.#cp = cp
  }

  async onConnected(session: Session, hello: Hello): Promise<void> {
    await reportSources(this.#cp, session.agentId, hello.sources)
    const working = hello.journal.filter((entry) => entry.state !== JournalState.FINISHED)
    this.#attempts.set(session, new Map(working.map((entry) => [entry.jobId, entry.attempt])))
    // what it says of taking a command is lost with a stream that ends: its journal says the same
    for (const { jobId, attempt } of working) {
      await receiveReport(this.#cp, session, { $case: 'jobAccepted', value: { jobId, attempt } })
    }
    await this.#endUntaken(session, hello)
    await this.renew(session)
    for (const entry of hello.journal) await this.#confirmOld(session, entry)
    this.#cp.wake()
  }

  async onMessage(session: Session, message: AgentMessage): Promise<void> {
    if (message.$case === 'jobAccepted') this.#attempts.get(session)?.set(message.value.jobId, message.value.attempt)
    if (message.$case === 'jobResult') this.#attempts.get(session)?.delete(message.value.jobId)
    await receiveReport(this.#cp, session, message)
  }

  async onClosed(session: Session): Promise<void> {
    this.#attempts.delete(session)
  }

  /** Said every few seconds while the stream lives. */
  async renew(session: Session): Promise<void> {
    const attempts = [...(this.#attempts.get(session) ?? [])].map(([jobId, attempt]) => ({ jobId, attempt }))
    await renewLeases(this.#cp.catalog.db, session, leaseEnd(this.#cp), attempts)
  }

  async #endUntaken(session: Session, { journal }: Hello): Promise<void> {
    const { catalog, clock, log } = this.#cp
    const { agentId, epoch } = session
    for (const { jobId, attempt } of await unheardAttempts(catalog.db, session)) {
      if (journal.some((entry) => entry.jobId === jobId && entry.attempt === attempt)) continue
      log.warn({ job: jobId, attempt, agent: agentId }, 'a command was lost with the stream that it went out on')
      await ignoreFenced(() => endUntaken(catalog.db, { by: { agentId, epoch }, jobId, attempt }, clock.now()))
    }
  }

  /** What the journal still keeps of jobs that are over, or that nobody knows, may go. */
  async #confirmOld(session: Session, entry: { jobId: string; attempt: number; state: JournalState }): Promise<void> {
    if (entry.state !== JournalState.FINISHED) return
    try {
      const job = await getJob(this.#cp.catalog.db, entry.jobId)
      if (job.agentId === session.agentId && !isFinished(job.state)) return
    } catch (error) {
      if (!isHoldfastError(error, 'not_found')) throw error
    }
    await confirm(session, entry, true)
  }
}
