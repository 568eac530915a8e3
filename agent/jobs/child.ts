import path from 'node:path'
import { systemClock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { JobCommand } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import { createLogger, type Logger } from '../../shared/log.ts'
import { keepLeavingSpareMemory } from '../../shared/spare-memory.ts'
import { compileSource, parseSources } from '../config/sources.ts'
import type { Run } from '../engines/engine.ts'
import { createTools } from '../process/spawn.ts'
import type { Transfer } from '../transfer/transfer.ts'
import type { JobContext } from './context.ts'
import { JobPriority } from './job-priority.ts'
import { Lease } from './lease.ts'
import type { PlainLimits } from './limits.ts'
import type { FromChild, JobStart, PlainProgress, PlainResult, ToChild } from './messages.ts'
import { jobObjects } from './objects.ts'
import { ownError } from './own-disk.ts'
import { ParentLink } from './parent-link.ts'
import { fromPlain, toPlain } from './plain.ts'
import { attemptLockFile, type ProcessLock, tryProcessLock } from './process-lock.ts'
import { Reporter } from './reporter.ts'
import { SharedPace } from './shared-pace.ts'
import { runWork } from './work.ts'

/**
 * The program of one job's process. It takes one `start`, works, sends one `result` and ends. When its parent goes, it stops at
 * once: nobody could confirm what it does any more.
 */

const clock = systemClock
const controller = new AbortController()
const send = (message: FromChild): void => {
  process.send?.(message)
}
const parent = new ParentLink(send, controller.signal)
const paces = {
  upload: new SharedPace(null, (bytes) => parent.calls.take({ direction: 'upload', bytes })),
  download: new SharedPace(null, (bytes) => parent.calls.take({ direction: 'download', bytes })),
}
const priority = new JobPriority((finding) => send({ type: 'finding', finding }))
let lease: Lease | undefined
/** Kept for as long as the process lives: a lock that is collected is a lock that is given back. */
let held: ProcessLock | null = null

process.on('message', (message: ToChild) => {
  switch (message.type) {
    case 'start':
      return void run(message)
    case 'cancel':
      return controller.abort(fromPlain(message.error))
    case 'limits':
      return void limit(message.limits)
    case 'lease':
      return lease?.extend(message.remainingMs)
    default:
      return parent.settle(message)
  }
})

process.on('disconnect', () => {
  controller.abort(
    new HoldfastError('agent_crashed', 'the agent that started this job has gone', {
      hint: 'The job goes on when the agent is back.',
    }),
  )
})

function limit(limits: PlainLimits): Promise<void> {
  paces.upload.set(limits.upload)
  paces.download.set(limits.download)
  return priority.set(limits)
}

async function run(start: JobStart): Promise<void> {
  const command = JobCommand.decode(start.command)
  const reporter = new Reporter(send, clock)
  const log = jobLogger(start.agent.logLevel)
  const result = await work(start, command, reporter, log)
  reporter.flush()
  // ended outright: a connection or a timer that is left must not keep the result from being told, which waits for this process's end
  process.send?.({ type: 'result', result } satisfies FromChild, () => process.exit())
}

async function work(start: JobStart, command: JobCommand, reporter: Reporter, log: Logger): Promise<PlainResult> {
  try {
    const scratch = path.join(start.folders.scratch, 'work')
    held = tryProcessLock(attemptLockFile(start.folders.scratch))
    if (!held) {
      throw new HoldfastError('overlap', `another process works on job ${command.jobId}`, { hint: 'Wait for it to end.' })
    }
    await limit(start.limits)
    void keepLeavingSpareMemory(clock, controller.signal)
    const objects = jobObjects(parent.calls, paces, clock, log)
    try {
      const detail = await runWork(context(start, { command, reporter, log, scratch, objects }))
      return { outcome: 'succeeded', error: null, detail, progress: reporter.totals }
    } finally {
      await objects.close()
    }
  } catch (error) {
    // the abort's reason tells more than what the interrupted call made of it
    const failure = ownError(controller.signal.aborted ? controller.signal.reason : error, start.folders.scratch)
    if (failure.code === 'internal') log.error({ err: failure.cause ?? failure }, 'unexpected error')
    const outcome = failure.code === 'job_cancelled' ? 'cancelled' : 'failed'
    return { outcome, error: toPlain(failure), detail: null, progress: reporter.totals }
  } finally {
    controller.abort(new HoldfastError('job_state', 'the job is over'))
  }
}

interface Parts {
  readonly command: JobCommand
  readonly reporter: Reporter
  readonly log: Logger
  readonly scratch: string
  readonly objects: Transfer
}

function context(start: JobStart, { command, reporter, log, scratch, objects }: Parts): JobContext {
  const granted = new Lease(clock, start.leaseMs)
  lease = granted
  const writes = command.work?.$case === 'restore' || command.work?.$case === 'testRestore'
  if (writes) void granted.watch(controller)
  const run: Run = {
    signal: controller.signal,
    log,
    clock,
    tools: createTools({ path: start.searchPath, log }),
    scratch,
    finding: (finding) => send({ type: 'finding', finding }),
    progress: (delta) => reporter.add(delta),
    fenced: () => {
      controller.signal.throwIfAborted()
      if (writes) granted.check()
    },
  }
  const sources = parseSources(start.sources)
  return {
    command,
    start,
    parent: parent.calls,
    objects,
    signal: controller.signal,
    clock,
    log,
    run,
    report: (change: Partial<PlainProgress>) => reporter.report(change),
    totals: () => reporter.totals,
    finding: run.finding,
    source: (name) => compileSource(sources, name),
  }
}

/** Lines go to the agent, which sends them on: agents' and jobs' logs are searched in one place. */
function jobLogger(level: string): Logger {
  return createLogger({
    level,
    destination: {
      write: (line: string) => {
        const { level: severity } = JSON.parse(line) as { level: string }
        send({ type: 'log', level: severity, message: line.trim() })
      },
    },
  })
}
