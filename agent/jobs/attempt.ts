import type { Clock } from '../../shared/clock.ts'
import { asHoldfastError, HoldfastError } from '../../shared/errors.ts'
import { JobCommand, type JobResult } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import type { ConnectRequest } from '../../shared/generated/holdfast/agent/v1/session.ts'
import type { Logger } from '../../shared/log.ts'
import { type JobProcess, startJobProcess } from '../process/job-process.ts'
import { type CallDeps, jobCalls } from './job-calls.ts'
import type { Journal } from './journal.ts'
import type { JobLimits } from './limits.ts'
import type { FromChild, JobStart, ParentCalls, PlainResult, ToChild } from './messages.ts'
import { ownError } from './own-disk.ts'
import { toPlain } from './plain.ts'
import { failedResult, wireFinding, wireProgress, wireResult } from './wire.ts'

export interface AttemptDeps extends Pick<CallDeps, 'objects' | 'signFacts' | 'offlineLimitMs'> {
  readonly limits: JobLimits
  readonly journal: Journal
  readonly clock: Clock
  readonly log: Logger
  readonly folders: JobStart['folders'] & { readonly compiled: string }
  readonly searchPath: string
  readonly userHome: string
  /** Where it is not in the sources: see JobEnvironment. */
  readonly jobProgram: string | undefined
  /** The agent's facts and its sources as agent.yaml has them now. */
  jobSettings(): Promise<Pick<JobStart, 'agent' | 'sources'>>
  /** How long an attempt may go on without a sign of life, from now. */
  leaseRemainingMs(): number
  send(message: ConnectRequest): void
}

/** How long a cancelled process may take to stop its tool and clean up before it is ended. */
const GRACE_MS = 20_000

const deadlineError = (seconds: number): HoldfastError =>
  new HoldfastError('deadline_exceeded', `the job took longer than its ${seconds} s`, {
    hint: 'Look at its log for what was slow, or give the job more time.',
  })

/** One attempt of a job: its process, and what passes between the two. */
export class Attempt {
  readonly number: number
  readonly #deps: AttemptDeps
  readonly #command: JobCommand
  readonly #process: JobProcess
  readonly #calls: ParentCalls
  readonly #over = new AbortController()
  #result: PlainResult | null = null
  #logNumber = 0
  readonly ended: Promise<JobResult>

  static async start(deps: AttemptDeps, command: JobCommand, scratch: string): Promise<Attempt> {
    const settings = await deps.jobSettings()
    const backup = command.work?.$case === 'backup'
    const keys = backup ? deps.journal.keys(command.jobId) : null
    const earlier = backup ? deps.journal.earlier(command.jobId) : []
    const attempt = new Attempt(deps, command)
    attempt.#send({
      type: 'start',
      command: JobCommand.encode(command).finish(),
      ...settings,
      folders: { ...deps.folders, scratch },
      searchPath: deps.searchPath,
      keys: keys && { dataKey: keys.dataKey.reveal(), gearKey: keys.gearKey.reveal() },
      jobKey: deps.journal.jobKey(command.jobId)?.reveal() ?? null,
      earlier: earlier.map((entry) => ({ ...entry, dataKey: entry.dataKey.reveal() })),
      packsFile: deps.journal.packsFile(command.jobId),
      leaseMs: deps.leaseRemainingMs(),
      limits: deps.limits.plain,
    })
    return attempt
  }

  private constructor(deps: AttemptDeps, command: JobCommand) {
    this.#deps = deps
    this.#command = command
    this.number = command.attempt
    this.#process = startJobProcess({
      searchPath: deps.searchPath,
      userHome: deps.userHome,
      compiled: deps.folders.compiled,
      program: deps.jobProgram,
      nice: deps.limits.plain.nice,
    })
    this.#calls = jobCalls(deps, command, this.#over.signal)
    this.#process.onMessage((message) => this.#receive(message as FromChild))
    this.ended = this.#waitForEnd()
    void this.#watchDeadline()
  }

  get pid(): number {
    return this.#process.pid
  }

  heard(): void {
    this.#send({ type: 'lease', remainingMs: this.#deps.leaseRemainingMs() })
  }

  /** Those of the agent have changed. */
  limited(): void {
    this.#send({ type: 'limits', limits: this.#deps.limits.plain })
  }

  /** Asks the process to stop; after the grace its whole group is ended. */
  cancel(error: HoldfastError): void {
    this.#send({ type: 'cancel', error: toPlain(error) })
    void this.#killAfter(GRACE_MS)
  }

  async #killAfter(ms: number): Promise<void> {
    await this.#deps.clock.sleep(ms, this.#over.signal).then(
      () => this.#process.kill('SIGKILL'),
      // it ended within its grace
      () => undefined,
    )
  }

  async #watchDeadline(): Promise<void> {
    const seconds = this.#command.deadlineSeconds
    if (seconds === 0) return
    await this.#deps.clock.sleep(seconds * 1000, this.#over.signal).then(
      () => this.cancel(deadlineError(seconds)),
      () => undefined,
    )
  }

  async #waitForEnd(): Promise<JobResult> {
    try {
      const end = await this.#process.gone
      if (this.#result) return wireResult(this.#command, this.#result)
      const how = end.killedBy ? `was ended by ${end.killedBy}` : `ended with status ${end.status}`
      return failedResult(this.#command, {
        code: 'agent_crashed',
        message: `the job's process ${how}`,
        hint: 'Look at the memory of the host (a process that takes too much is ended by the kernel); the job is tried again.',
        retry: true,
      })
    } catch (error) {
      return failedResult(this.#command, toPlain(asHoldfastError(error)))
    } finally {
      this.#over.abort(new Error('the attempt is over'))
      // tools of a process that died without cleaning up
      this.#process.kill('SIGKILL')
    }
  }

  #receive(message: FromChild): void {
    const attempt = this.#command
    switch (message.type) {
      case 'call':
        return void this.#answer(message)
      case 'progress':
        return this.#deps.send({ message: { $case: 'jobProgress', value: wireProgress(attempt, message.progress) } })
      case 'finding':
        return this.#deps.send(wireFinding(attempt, message.finding))
      case 'log':
        this.#logNumber += 1
        return this.#deps.send({
          message: {
            $case: 'jobLog',
            value: {
              jobId: attempt.jobId,
              attempt: attempt.attempt,
              number: BigInt(this.#logNumber),
              level: message.level,
              message: message.message.slice(0, 8000),
              clockMs: BigInt(this.#deps.clock.now().getTime()),
            },
          },
        })
      case 'result':
        this.#result = message.result
    }
  }

  async #answer({ call, method, argument }: Extract<FromChild, { type: 'call' }>): Promise<void> {
    try {
      const value = await (this.#calls[method] as (argument: unknown) => Promise<unknown>)(argument)
      this.#send({ type: 'answer', call, value })
    } catch (error) {
      this.#send({ type: 'error', call, error: toPlain(ownError(error, this.#deps.folders.scratch)) })
    }
  }

  #send(message: ToChild): void {
    this.#process.send(message)
  }
}
