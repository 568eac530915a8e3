import { randomBytes } from 'node:crypto'
import { mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import type { Clock } from '../../shared/clock.ts'
import { HoldfastError, isHoldfastError } from '../../shared/errors.ts'
import type { JobCommand, JobResult } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import {
  type AgentLimits,
  type ConnectRequest,
  type JournalEntry,
  JournalState,
} from '../../shared/generated/holdfast/agent/v1/session.ts'
import type { Logger } from '../../shared/log.ts'
import { Secret } from '../../shared/secret.ts'
import { Attempt, type AttemptDeps } from './attempt.ts'
import type { Journal, JournalRecord, NewKeys } from './journal.ts'
import { ownError } from './own-disk.ts'
import { toPlain } from './plain.ts'
import { attemptLockFile, waitForProcessLock } from './process-lock.ts'
import { shownJobKey } from './unlock.ts'
import { failedResult, wireError } from './wire.ts'

export interface RunnerDeps extends AttemptDeps {
  readonly journal: Journal
  readonly clock: Clock
  readonly log: Logger
  /** To the control plane, in order; what is sent while there is no stream is dropped: the journal has what matters. */
  send(message: ConnectRequest): void
}

const KEEP_AGAIN_MS = 2000

/** Takes commands, runs each in a process of its own, and keeps results until they are confirmed. */
export class Runner {
  readonly #deps: RunnerDeps
  readonly #attempts = new Map<string, Attempt>()
  /** Of each job at work, until its result is in the journal. */
  readonly #runs = new Map<string, Promise<void>>()
  /** Newer attempts that wait for an older one of their job to end, by job. */
  readonly #waiting = new Map<string, JobCommand>()
  /** Of those, what is being written to the journal. */
  readonly #taking = new Set<Promise<void>>()
  readonly #closing = new AbortController()

  constructor(deps: RunnerDeps) {
    this.#deps = deps
  }

  /** Ends what an earlier run of this agent left behind: its process is waited for, so that "ended" is true when it is said. */
  async recover(): Promise<void> {
    for (const record of this.#deps.journal.records()) {
      if (record.state === 'accepted' || record.state === 'running') this.#begin(record.jobId, this.#endLeftOver(record))
    }
  }

  /** For Hello: what the journal holds that the control plane may not know. What it does not name is never begun. */
  async journalEntries(): Promise<JournalEntry[]> {
    await Promise.all(this.#taking)
    return this.#deps.journal.records().map((record) => ({
      jobId: record.jobId,
      attempt: record.attempt,
      state: JOURNAL_STATES[record.state],
    }))
  }

  /** After each new stream: results that were not confirmed are sent again. */
  connected(): void {
    for (const record of this.#deps.journal.records()) {
      if (record.state === 'finished' && record.result) this.#sendResult(record.result)
    }
    for (const attempt of this.#attempts.values()) attempt.heard()
  }

  /** What waits is not in the journal yet: from the next hello on the control plane holds that it was never taken, and gives it out again. */
  disconnected(): void {
    this.#waiting.clear()
  }

  /** Any sign of life of the control plane extends the leases. */
  heard(): void {
    for (const attempt of this.#attempts.values()) attempt.heard()
  }

  /** A repeated command is answered with what is known; an older attempt's is refused. */
  async command(command: JobCommand): Promise<void> {
    const known = this.#deps.journal.get(command.jobId)
    if (known && known.attempt === command.attempt) return this.#repeat(known)
    if (known && known.attempt > command.attempt) {
      return this.#refuse(
        command,
        new HoldfastError('attempt_fenced', `attempt ${known.attempt} of job ${command.jobId} is already known`),
      )
    }
    const earlier = this.#runs.get(command.jobId)
    if (earlier) return this.#afterEarlier(command, earlier)
    return this.#take(command)
  }

  /**
   * The control plane has given the attempt at work up: it can commit nothing any more. It is ended, and the newer one is taken when it has.
   * In the background, so that the next commands do not wait; a repeated command finds itself waiting already.
   */
  #afterEarlier(command: JobCommand, earlier: Promise<void>): void {
    const { jobId, attempt } = command
    const waiting = this.#waiting.get(jobId)
    if (!waiting || waiting.attempt < attempt) this.#waiting.set(jobId, command)
    if (waiting) return
    this.#attempts.get(jobId)?.cancel(superseded(command))
    const taken = earlier.then(async () => {
      const newest = this.#waiting.get(jobId)
      this.#waiting.delete(jobId)
      if (!newest || this.#closing.signal.aborted) return
      const taking = this.#take(newest).finally(() => this.#taking.delete(taking))
      this.#taking.add(taking)
      await taking
    })
    taken.catch((error: unknown) => this.#deps.log.error({ err: error, job: jobId }, 'a waiting attempt could not be taken'))
  }

  async #take(command: JobCommand): Promise<void> {
    try {
      await this.#deps.journal.accept(command, await newKeys(command))
    } catch (error) {
      this.#deps.log.error({ err: error, job: command.jobId }, 'the journal could not be written')
      return this.#refuse(command, ownError(error, this.#deps.folders.scratch))
    }
    this.#deps.send({ message: { $case: 'jobAccepted', value: { jobId: command.jobId, attempt: command.attempt } } })
    this.#begin(command.jobId, this.#run(command))
  }

  #begin(jobId: string, work: Promise<void>): void {
    const run = work.finally(() => this.#runs.delete(jobId))
    this.#runs.set(jobId, run)
  }

  /** Of all jobs together, those at work included. */
  limit(limits: AgentLimits): void {
    this.#deps.limits.set(limits)
    for (const attempt of this.#attempts.values()) attempt.limited()
  }

  cancel(jobId: string, attempt: number, error: HoldfastError): void {
    const running = this.#attempts.get(jobId)
    if (running && running.number === attempt) running.cancel(error)
  }

  /** For tests of what happens when a job's process dies. */
  processIds(): number[] {
    return [...this.#attempts.values()].map((attempt) => attempt.pid)
  }

  async confirmed(jobId: string, attempt: number, final: boolean): Promise<void> {
    await this.#deps.journal.confirmed(jobId, attempt, final)
  }

  /** Stops every job and waits until its process is gone; the results stay in the journal. */
  async close(): Promise<void> {
    const reason = new HoldfastError('agent_crashed', 'the agent was stopped', {
      hint: 'The job goes on when the agent is back.',
    })
    this.#closing.abort(reason)
    const running = [...this.#attempts.values()]
    for (const attempt of running) attempt.cancel(reason)
    await Promise.all(running.map((attempt) => attempt.ended))
  }

  async #run(command: JobCommand): Promise<void> {
    const { journal, log } = this.#deps
    try {
      const scratch = await this.#makeScratch(command.jobId)
      await journal.running(command.jobId)
      await this.#showJobKey(command.jobId)
      const attempt = await Attempt.start(this.#deps, command, scratch)
      this.#attempts.set(command.jobId, attempt)
      // they may have changed while it was started
      attempt.limited()
      const newer = this.#waiting.get(command.jobId)
      if (newer) attempt.cancel(superseded(newer))
      const result = await attempt.ended
      await rm(scratch, { recursive: true, force: true })
      await this.#finish(result)
    } catch (error) {
      log.error({ err: error, job: command.jobId }, 'the job could not be run')
      await this.#finish(failedResult(command, toPlain(ownError(error, this.#deps.folders.scratch))))
    } finally {
      this.#attempts.delete(command.jobId)
    }
  }

  /** On this host: what comes by way of the control plane could not be compared with it. */
  async #showJobKey(jobId: string): Promise<void> {
    const record = this.#deps.journal.get(jobId)
    const shown = record && (await shownJobKey(record))
    if (shown) this.#deps.log.warn(shown, 'the job waits to be unlocked: an operator compares this fingerprint')
  }

  /**
   * A result that cannot be kept, on a full disk, is told all the same, and kept once there is room: with its stream up an attempt that has ended would
   * otherwise pass for one at work until its deadline.
   */
  async #finish(result: JobResult): Promise<void> {
    const { journal, clock, log } = this.#deps
    for (;;) {
      const failure = await journal.finished(result).then(
        () => null,
        (error: unknown) => error,
      )
      this.#sendResult(result)
      // of an attempt that the journal no longer holds nothing is kept
      if (failure === null || isHoldfastError(failure, 'not_found')) return
      log.error({ err: failure, job: result.jobId }, 'the result of a job could not be kept yet')
      await clock.sleep(KEEP_AGAIN_MS, this.#closing.signal).catch(() => undefined)
      if (this.#closing.signal.aborted) return
    }
  }

  #sendResult(result: JobResult): void {
    this.#deps.send({ message: { $case: 'jobResult', value: result } })
  }

  #repeat(known: JournalRecord): void {
    if (known.state === 'finished' && known.result) return this.#sendResult(known.result)
    this.#deps.send({ message: { $case: 'jobAccepted', value: { jobId: known.jobId, attempt: known.attempt } } })
  }

  #refuse(command: JobCommand, error: HoldfastError): void {
    this.#deps.send({
      message: {
        $case: 'jobRefused',
        value: { jobId: command.jobId, attempt: command.attempt, error: wireError(toPlain(error)) },
      },
    })
  }

  /** Until it is done: with a disk that fails for a while the attempt would otherwise pass for one at work until the agent's next start. */
  async #endLeftOver(record: JournalRecord): Promise<void> {
    const { clock, log } = this.#deps
    const { signal } = this.#closing
    for (;;) {
      const failure = await this.#waitForLeftOver(record).then(
        () => null,
        (error: unknown) => ({ error }),
      )
      if (failure === null) break
      if (signal.aborted) return
      log.error({ err: failure.error, job: record.jobId }, 'a left-over job could not be ended yet')
      // closed meanwhile: the next turn fails at once, and ends it
      await clock.sleep(KEEP_AGAIN_MS, signal).catch(() => undefined)
    }
    const error = new HoldfastError('agent_crashed', 'the agent ended while the job ran', {
      hint: 'The job is tried again by itself.',
    })
    await this.#finish(failedResult(record, toPlain(error)))
  }

  async #waitForLeftOver({ jobId }: JournalRecord): Promise<void> {
    const scratch = path.join(this.#deps.folders.scratch, jobId)
    await mkdir(scratch, { recursive: true, mode: 0o700 })
    const lock = await waitForProcessLock(attemptLockFile(scratch), this.#deps.clock, this.#closing.signal)
    lock.release()
    await rm(scratch, { recursive: true, force: true })
  }

  async #makeScratch(jobId: string): Promise<string> {
    const scratch = path.join(this.#deps.folders.scratch, jobId)
    await rm(scratch, { recursive: true, force: true })
    await mkdir(path.join(scratch, 'work'), { recursive: true, mode: 0o700 })
    return scratch
  }
}

const JOURNAL_STATES = {
  accepted: JournalState.ACCEPTED,
  running: JournalState.RUNNING,
  finished: JournalState.FINISHED,
  confirmed: JournalState.FINISHED,
} as const

const superseded = ({ jobId, attempt }: JobCommand): HoldfastError =>
  new HoldfastError('attempt_fenced', `attempt ${attempt} of job ${jobId} has taken the place of this one`)

async function newKeys(command: JobCommand): Promise<NewKeys> {
  if (command.work?.$case === 'backup') {
    return { backup: { dataKey: new Secret(randomBytes(32)), gearKey: new Secret(randomBytes(32)) } }
  }
  if (!command.needsUnlock) return {}
  // 8 MB, for jobs that wait for an operator's key
  const { newAgeIdentity } = await import('../../shared/age/age.ts')
  return { jobKey: await newAgeIdentity() }
}
