import { backoffMs } from '../../shared/backoff.ts'
import { asHoldfastError } from '../../shared/errors.ts'
import { getBackup } from '../catalog/backups.ts'
import { claimValidations, takeOverCommits } from '../catalog/claim-jobs.ts'
import { expireLeases, finishAttempt, renewLease } from '../catalog/job-reports.ts'
import { getJob, type JobRow } from '../catalog/jobs.ts'
import type { Session } from '../fleet/live-session.ts'
import { resumeCommit } from './commit-backup.ts'
import type { ControlPlane } from './control-plane.ts'
import { dispatchJobs, sendCancels } from './dispatch-jobs.ts'
import { finishBackup } from './finish-backup.ts'
import type { AgentSessions } from './handle-session.ts'
import { leaseEnd } from './receive-report.ts'
import { recordValidation } from './record-verification.ts'
import { SendLimits } from './send-limits.ts'
import { validateBackup } from './validate-backup.ts'
import { withdrawManifests } from './withdraw-manifests.ts'

/** Notifications only make a round earlier: the poll decides. */
const POLL_MS = 2000
/** After a store refused, or could not be reached; a lock on the bucket may refuse for weeks. */
const WITHDRAW_AGAIN_MS = { first: 30_000, longest: 600_000 }

/**
 * The rounds of one control plane: leases renewed and expired, cancels and limits passed on, due jobs given out, commits that another one left behind
 * finished. Every round is safe to repeat and to make beside another control plane's.
 */
export class WorkLoop {
  readonly #cp: ControlPlane
  readonly #sessions: AgentSessions
  readonly #held: () => readonly Session[]
  readonly #limits: SendLimits
  readonly #stop = new AbortController()
  readonly #background = new Map<string, Promise<void>>()
  #wake: AbortController | null = null
  #woken = false
  /** Since when every lease could have been renewed, had its agent been there. */
  #sightedMs: number
  /** Before its leases were renewed: one that is over by this time was not, whatever the clock has done since. */
  #roundAt: Date
  #running: Promise<void> = Promise.resolve()
  #withdrawing: Promise<void> | null = null
  /** Failed backups whose manifests a store did not let go: one that is locked must not hold up the others. */
  readonly #withdrawLater = new Map<string, { readonly failures: number; readonly notBeforeMs: number }>()

  constructor(cp: ControlPlane, sessions: AgentSessions, held: () => readonly Session[]) {
    this.#cp = cp
    this.#sessions = sessions
    this.#held = held
    this.#limits = new SendLimits(cp)
    this.#sightedMs = cp.clock.monotonicMs()
    this.#roundAt = cp.clock.now()
  }

  start(): void {
    this.#running = this.#run()
  }

  wake(): void {
    this.#woken = true
    this.#wake?.abort()
  }

  /** Ends after the round and the validations under way, which a later start goes on with. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error('the control plane is stopping'))
    this.wake()
    await this.#running
    await Promise.all([...this.#background.values(), this.#withdrawing])
  }

  /** Validates what was just committed, beside the rounds. */
  finish(job: { id: string; attempt: number }): void {
    this.#inBackground(job, () => finishBackup(this.#cp, job, this.#stop.signal))
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      this.#woken = false
      this.#roundAt = this.#cp.clock.now()
      for (const step of [
        this.#renew,
        this.#cancel,
        this.#expire,
        this.#takeOver,
        this.#validate,
        this.#withdraw,
        this.#limit,
        this.#dispatch,
      ]) {
        await this.#guarded(step)
      }
      await this.#rest()
    }
  }

  /** One step that fails must not keep the others from their work. */
  async #guarded(step: () => Promise<void>): Promise<void> {
    try {
      await step.call(this)
    } catch (error) {
      this.#sightedMs = this.#cp.clock.monotonicMs()
      if (!this.#stop.signal.aborted) this.#cp.log.error({ err: asHoldfastError(error) }, 'a round of work failed in part')
    }
  }

  async #rest(): Promise<void> {
    if (this.#woken || this.#stop.signal.aborted) return
    this.#wake = new AbortController()
    // woken before its time
    await this.#cp.clock.sleep(POLL_MS, this.#wake.signal).catch(() => undefined)
    this.#wake = null
  }

  async #renew(): Promise<void> {
    for (const session of this.#held()) await this.#sessions.renew(session)
    for (const key of this.#background.keys()) {
      const [id, attempt] = key.split(' ')
      await renewLease(this.#cp.catalog.db, id ?? '', Number(attempt), leaseEnd(this.#cp))
    }
  }

  async #cancel(): Promise<void> {
    await sendCancels(this.#cp, this.#held())
  }

  /** Not before agents had a lease's length to come back: after a restart, or with the catalog away, silence says nothing about them. */
  async #expire(): Promise<void> {
    if (this.#cp.clock.monotonicMs() - this.#sightedMs < this.#cp.settings.leaseSeconds * 1000) return
    for (const job of await expireLeases(this.#cp.catalog.db, this.#roundAt)) {
      this.#cp.log.warn({ job: job.id, attempt: job.attempt, state: job.state, code: job.errorCode }, 'attempt expired')
      this.#cp.finished(await getJob(this.#cp.catalog.db, job.id))
    }
  }

  async #takeOver(): Promise<void> {
    for (const job of await takeOverCommits(this.#cp.catalog.db, this.#roundAt, leaseEnd(this.#cp))) {
      this.#cp.log.warn({ job: job.id, state: job.state }, 'a commit that was left behind is finished here')
      this.#inBackground(job, async () => {
        if (job.state === 'committing') await resumeCommit(this.#cp, job)
        await finishBackup(this.#cp, job, this.#stop.signal)
      })
    }
  }

  async #validate(): Promise<void> {
    const { catalog, clock, instanceId } = this.#cp
    for (const job of await claimValidations(catalog.db, instanceId, clock.now(), leaseEnd(this.#cp))) {
      this.#inBackground(job, () => this.#runValidation(job))
    }
  }

  async #runValidation(job: JobRow): Promise<void> {
    const { catalog, clock } = this.#cp
    const startedAt = clock.now()
    const ref = { by: 'control-plane', jobId: job.id, attempt: job.attempt } as const
    try {
      const backup = await getBackup(catalog.db, job.backupId ?? '')
      const validation = await validateBackup(this.#cp, backup, this.#stop.signal)
      await recordValidation(this.#cp, backup, validation, { startedAt, jobId: job.id })
      await finishAttempt(catalog.db, ref, { outcome: 'succeeded', detail: { ...validation } }, clock.now())
    } catch (error) {
      if (this.#stop.signal.aborted) return
      const { code, message, hint, retry } = asHoldfastError(error)
      await finishAttempt(catalog.db, ref, { outcome: 'failed', error: { code, message, hint }, retryable: retry }, clock.now())
    }
  }

  /** Beside the rounds: a store that hangs must not keep jobs waiting. */
  async #withdraw(): Promise<void> {
    this.#withdrawing ??= this.#withdrawDue()
      .catch((error: unknown) => {
        if (!this.#stop.signal.aborted)
          this.#cp.log.error({ err: asHoldfastError(error) }, 'manifests of failed backups could not be removed')
      })
      .finally(() => {
        this.#withdrawing = null
      })
  }

  async #withdrawDue(): Promise<void> {
    const nowMs = this.#cp.clock.monotonicMs()
    const waiting = [...this.#withdrawLater].filter(([, { notBeforeMs }]) => notBeforeMs > nowMs)
    const later = new Set(waiting.map(([id]) => id))
    const failed = await withdrawManifests(this.#cp, this.#cp.clock.now(), { later, signal: this.#stop.signal })
    for (const id of this.#withdrawLater.keys()) if (!later.has(id) && !failed.includes(id)) this.#withdrawLater.delete(id)
    for (const id of failed) {
      const failures = (this.#withdrawLater.get(id)?.failures ?? 0) + 1
      const { first, longest } = WITHDRAW_AGAIN_MS
      this.#withdrawLater.set(id, { failures, notBeforeMs: nowMs + backoffMs(failures, first, longest) })
    }
  }

  async #limit(): Promise<void> {
    await this.#limits.tell(this.#held())
  }

  async #dispatch(): Promise<void> {
    await dispatchJobs(
      this.#cp,
      this.#held().filter((session) => this.#limits.told(session)),
    )
  }

  #inBackground(job: { id: string; attempt: number }, work: () => Promise<void>): void {
    const key = `${job.id} ${job.attempt}`
    if (this.#background.has(key)) return
    const done = work()
      .catch((error: unknown) => {
        if (!this.#stop.signal.aborted)
          this.#cp.log.error({ err: asHoldfastError(error), job: job.id }, 'a commit could not be finished yet')
      })
      .finally(() => this.#background.delete(key))
    this.#background.set(key, done)
  }
}
