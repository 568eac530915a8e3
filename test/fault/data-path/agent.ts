import type { JobStart } from '../../../agent/jobs/messages.ts'
import { toPlain } from '../../../agent/jobs/plain.ts'
import { asHoldfastError } from '../../../shared/errors.ts'
import { JobCommand, type JobResult } from '../../../shared/generated/holdfast/agent/v1/jobs.ts'
import { ConnectRequest } from '../../../shared/generated/holdfast/agent/v1/session.ts'
import { type StartedProcess, startProcess } from '../../harness/processes.ts'
import type { FromAgent, ToAgent } from './agent-messages.ts'
import type { DataPathControlPlane } from './control-plane.ts'
import { programs } from './programs.ts'

type Message = NonNullable<ConnectRequest['message']>

/** agent-program.ts as a process, started again whenever it was killed. */
export class FaultedAgent {
  readonly #controlPlane: DataPathControlPlane
  readonly #env: Readonly<Record<string, string>>
  #home: Extract<ToAgent, { type: 'open' }> | null = null
  /** Of what it says; one that was killed says nothing more. */
  hears: (message: Message) => void = () => undefined
  #process: StartedProcess | null = null
  #jobPid = 0
  #opened = Promise.withResolvers<readonly string[]>()
  #kept = Promise.withResolvers<void>()

  constructor(controlPlane: DataPathControlPlane, env: Readonly<Record<string, string>>) {
    this.#controlPlane = controlPlane
    this.#env = env
  }

  /** Works in this home from now on; the process is another one only when the last was killed. */
  async open(home: { home: string } & Pick<JobStart, 'agent' | 'sources'>): Promise<void> {
    this.#home = { type: 'open', ...home }
    if (!this.isRunning) await this.#start()
    await this.#read()
  }

  /** After a kill: the jobs that its journal holds. */
  async again(): Promise<readonly string[]> {
    await this.#start()
    return this.#read()
  }

  async #read(): Promise<readonly string[]> {
    this.#opened = Promise.withResolvers()
    if (this.#home) this.#send(this.#home)
    return Promise.race([this.#opened.promise, this.gone.then(({ output }) => Promise.reject(new Error(output)))])
  }

  async #start(): Promise<void> {
    let up = false
    const { agent, job, compiled } = await programs()
    this.#process = await startProcess(process.execPath, ['--disable-warning=ExperimentalWarning', agent], {
      env: { ...this.#env, NODE_COMPILE_CACHE: compiled, HOLDFAST_JOB_PROGRAM: job },
      ipc: true,
      onMessage: (message) => {
        up = true
        this.#receive(message as FromAgent)
      },
      ready: () => up,
    })
  }

  /** Settles when it has gone; with what it wrote where nobody has killed it. */
  get gone(): Promise<{ killed: boolean; output: string }> {
    const { exited, output } = this.#running
    return exited.then(({ signal }) => ({ killed: signal === 'SIGKILL', output: output() }))
  }

  get isRunning(): boolean {
    return this.#process !== null && this.#process.ended === undefined
  }

  command(command: JobCommand): void {
    this.#send({ type: 'command', command: JobCommand.encode(command).finish() })
  }

  /** As a control plane says it: the result is known. */
  async confirm({ jobId, attempt }: JobResult, final: boolean): Promise<void> {
    this.#kept = Promise.withResolvers()
    this.#send({ type: 'confirmed', jobId, attempt, final })
    await this.#kept.promise
  }

  kill(who: 'job' | 'agent'): void {
    if (who === 'agent') return this.#running.kill('SIGKILL')
    try {
      process.kill(this.#jobPid, 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }

  async stop(): Promise<void> {
    await this.#process?.stop({ signal: 'SIGKILL' })
  }

  get #running(): StartedProcess {
    if (this.#process) return this.#process
    throw new Error('the agent was not started')
  }

  #send(message: ToAgent): void {
    this.#running.send(message)
  }

  #receive(message: FromAgent): void {
    switch (message.type) {
      case 'opened':
        return this.#opened.resolve(message.jobs)
      case 'kept':
        return this.#kept.resolve()
      case 'failed': {
        const error = new Error(`the agent says: ${message.error.code}, ${message.error.message}`)
        this.#opened.reject(error)
        return this.#kept.reject(error)
      }
      case 'job':
        this.#jobPid = message.pid
        return
      case 'message': {
        const { message: said } = ConnectRequest.decode(message.message)
        if (said) this.hears(said)
        return
      }
      case 'call':
        return void this.#answer(message)
    }
  }

  async #answer({ call, method, request }: Extract<FromAgent, { type: 'call' }>): Promise<void> {
    try {
      this.#send({ type: 'answer', call, value: await this.#controlPlane.answer(method, request) })
    } catch (error) {
      this.#send({ type: 'answer', call, error: toPlain(asHoldfastError(error)) })
    }
  }
}
