import childProcess, { type ForkOptions } from 'node:child_process'
import { createPrivateKey } from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import { makeHome, stateFolders } from '../../../agent/config/home.ts'
import type { CallDeps } from '../../../agent/jobs/job-calls.ts'
import { Journal } from '../../../agent/jobs/journal.ts'
import { JobLimits } from '../../../agent/jobs/limits.ts'
import type { JobStart } from '../../../agent/jobs/messages.ts'
import { fromPlain, toPlain } from '../../../agent/jobs/plain.ts'
import { Runner } from '../../../agent/jobs/runner.ts'
import { systemClock } from '../../../shared/clock.ts'
import { asHoldfastError } from '../../../shared/errors.ts'
import { JobCommand } from '../../../shared/generated/holdfast/agent/v1/jobs.ts'
import { AgentLimits, ConnectRequest, ProcessorPriority } from '../../../shared/generated/holdfast/agent/v1/session.ts'
import { createLogger } from '../../../shared/log.ts'
import { signFacts } from '../../../shared/manifest/sign.ts'
import { TEST_AGENT_CHAIN, TEST_AGENT_KEY } from '../../../shared/repository/testing/agent-identity.ts'
import type { FromAgent, ToAgent } from './agent-messages.ts'

/**
 * An agent without its link: the product's runner and journal, and the processes of jobs that it starts. What it says to a control plane goes to the
 * process that started it, which answers.
 */

const send = (message: FromAgent): void => void process.send?.(message)
const log = createLogger({ level: 'silent' })
let runner: Runner | undefined
const waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>()
let calls = 0

// jobs are started with a nearly empty environment: what lets disks fail has to reach them all the same
const { fork } = childProcess
const patched = (file: string, args: readonly string[], options: ForkOptions) => {
  const { LD_PRELOAD, HOLDFAST_DISK_FAULTS } = process.env
  const child = fork(file, args, { ...options, env: { ...options.env, LD_PRELOAD, HOLDFAST_DISK_FAULTS } })
  if (child.pid !== undefined) send({ type: 'job', pid: child.pid })
  return child
}
Object.assign(childProcess, { fork: patched })
syncBuiltinESMExports()

process.on('message', (message: ToAgent) => {
  switch (message.type) {
    case 'open':
      return void open(message).then(
        (jobs) => send({ type: 'opened', jobs }),
        (error: unknown) => send({ type: 'failed', error: toPlain(asHoldfastError(error)) }),
      )
    case 'command':
      return void runner?.command(JobCommand.decode(message.command))
    case 'confirmed':
      return void runner?.confirmed(message.jobId, message.attempt, message.final).then(
        () => send({ type: 'kept' }),
        (error: unknown) => send({ type: 'failed', error: toPlain(asHoldfastError(error)) }),
      )
    case 'answer': {
      const call = waiting.get(message.call)
      waiting.delete(message.call)
      if (message.error) call?.reject(fromPlain(message.error))
      else call?.resolve(message.value as never)
    }
  }
})
process.on('disconnect', () => process.exit())

function ask<T>(method: keyof CallDeps['objects'], request: unknown): Promise<T> {
  const call = ++calls
  return new Promise<T>((resolve, reject) => {
    waiting.set(call, { resolve, reject })
    send({ type: 'call', call, method, request })
  })
}

async function open({ home, agent, sources }: Extract<ToAgent, { type: 'open' }>): Promise<string[]> {
  const at = { config: home, state: home }
  await makeHome(at)
  const folders: JobStart['folders'] & { compiled: string } = {
    ...stateFolders(at),
    compiled: process.env.NODE_COMPILE_CACHE ?? '',
  }
  const facts = { privateKey: createPrivateKey(TEST_AGENT_KEY), chainPem: TEST_AGENT_CHAIN }
  // jobs have no lower priority than what they are beside: on a busy machine seeds would else take many times as long
  const limits = new JobLimits(systemClock, log, 0)
  limits.set(AgentLimits.fromPartial({ processor: ProcessorPriority.NORMAL }))
  runner = new Runner({
    journal: await Journal.open(stateFolders(at).journal),
    clock: systemClock,
    log,
    folders,
    limits,
    searchPath: process.env.PATH ?? '',
    userHome: home,
    jobProgram: process.env.HOLDFAST_JOB_PROGRAM,
    offlineLimitMs: 60_000,
    objects: {
      signPuts: (request) => ask('signPuts', request),
      signGets: (request) => ask('signGets', request),
      askUnlock: (request) => ask('askUnlock', request),
      openBackups: (request) => ask('openBackups', request),
      commitBackup: (request) => ask('commitBackup', request),
    },
    signFacts: (of) => signFacts(of, facts),
    jobSettings: async () => ({ agent, sources }),
    leaseRemainingMs: () => 60_000,
    send: (message) => send({ type: 'message', message: ConnectRequest.encode(message).finish() }),
  })
  await runner.recover()
  runner.connected()
  return (await runner.journalEntries()).map(({ jobId }) => jobId)
}

send({ type: 'started' })
