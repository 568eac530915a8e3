import path from 'node:path'
import { type JobCommand, JobOutcome, type JobResult } from '../../../shared/generated/holdfast/agent/v1/jobs.ts'
import type { JobRefused } from '../../../shared/generated/holdfast/agent/v1/session.ts'
import type { Fault as LineFault, SeenRequest } from '../../harness/fault-proxy.ts'
import type { DataPathControlPlane } from './control-plane.ts'
import type { BadLine, Fault, Kill, Place } from './schedule.ts'
import type { DataPathWorld } from './world.ts'

export interface Ended {
  /** Null of an attempt that the agent's journal did not hold when the agent was back. */
  readonly result: JobResult | null
  readonly findings: ReadonlyArray<{ readonly code: string; readonly message: string }>
  /** Whether the fault has struck. */
  readonly met: boolean
}

/** However long transfers are tried again, and a slow machine takes. */
const LIMIT_MS = 60_000
/** An answer that later ones are to overtake waits so long at most. */
const OVERTAKEN_MS = 150
const SLOW_BYTES_PER_SECOND = 40_000_000

/** One attempt of a job, with the fault done to it. After it nothing fails any more. */
export async function attempt(
  world: DataPathWorld,
  command: JobCommand,
  fault: Fault | null,
  folders: Readonly<Record<Place, string>>,
): Promise<Ended> {
  const { agent, controlPlane, disks, proxy } = world
  const findings: Array<{ code: string; message: string }> = []
  const over = Promise.withResolvers<JobResult>()
  agent.hears = (message) => {
    const { value } = message
    if (!('jobId' in value) || value.jobId !== command.jobId) return
    if (message.$case === 'jobFinding') findings.push({ code: message.value.code, message: message.value.message })
    if (message.$case === 'jobResult' && message.value.attempt === command.attempt) over.resolve(message.value)
    if (message.$case === 'jobRefused') over.resolve(refused(message.value))
  }
  controlPlane.run(command)
  const struck = fault ? arm(world, fault, folders) : () => false
  const end = () => {
    proxy.script = () => ({ kind: 'pass' })
    controlPlane.heard = () => undefined
    return struck()
  }
  try {
    agent.command(command)
    const first = await soon(command, Promise.race([over.promise, agent.gone]))
    const met = end()
    const result = 'jobId' in first ? first : await afterDeath(world, command, first, over.promise)
    return { result, findings, met }
  } finally {
    end()
    disks.clear()
    controlPlane.run(null)
  }
}

const refused = ({ jobId, attempt: number, error }: JobRefused): JobResult => ({
  ...{ jobId, attempt: number, error },
  outcome: JobOutcome.FAILED,
  totals: undefined,
  detailJson: '',
})

/** The agent was killed: it is started again, and says what became of the attempt. */
async function afterDeath(
  { agent }: DataPathWorld,
  command: JobCommand,
  { killed, output }: { killed: boolean; output: string },
  over: Promise<JobResult>,
): Promise<JobResult | null> {
  if (!killed) throw new Error(`the agent ended by itself: ${output}`)
  const jobs = await agent.again()
  return jobs.includes(command.jobId) ? soon(command, over) : null
}

async function soon<T>({ jobId }: JobCommand, what: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new Error(`an attempt of ${jobId} took longer than ${LIMIT_MS / 1000} s`)), LIMIT_MS)
  try {
    return await Promise.race([what, late.promise])
  } finally {
    clearTimeout(timer)
  }
}

/** Returns what says, once, whether it has struck, and takes it away. */
function arm(world: DataPathWorld, fault: Fault, folders: Readonly<Record<Place, string>>): () => boolean {
  if (fault.kind === 'disk') {
    const { where, call, how, at, times } = fault
    world.disks.set({ calls: [call], how, at, times, below: folders[where] })
    return () => world.disks.clear() > 0
  }
  let met = false
  const strike = () => {
    met = true
  }
  if (fault.kind === 'line') world.proxy.script = badLine(fault, strike)
  else armKill(world, fault, strike)
  return () => met
}

function armKill({ agent, controlPlane, proxy }: DataPathWorld, { who, when, at }: Kill, strike: () => void): void {
  let count = 0
  const kill = () => {
    strike()
    agent.kill(who)
  }
  if (when === 'put' || when === 'get' || when === 'stored') {
    const method = when === 'get' ? 'GET' : 'PUT'
    proxy.script = (request) => {
      if (request.method !== method || ++count !== at) return { kind: 'pass' }
      if (when === 'stored') return { kind: 'hold-reply', release: Promise.resolve(), answered: kill }
      kill()
      // a small body may all be under way already: what was not stored has to be told from what was
      return when === 'put' ? { kind: 'cut-request', afterBytes: 0 } : { kind: 'pass' }
    }
    return
  }
  controlPlane.heard = (call: Parameters<DataPathControlPlane['heard']>[0]) => {
    if (call === when && ++count === at) kill()
  }
}

function badLine({ what, status, at, times, afterBytes }: BadLine, strike: () => void): (request: SeenRequest) => LineFault {
  let count = 0
  let overtaken: (() => void) | undefined
  const faults: Readonly<Record<BadLine['what'], () => LineFault>> = {
    status: () => ({ kind: 'status', status }),
    'lose-reply': () => ({ kind: 'lose-reply' }),
    'cut-request': () => ({ kind: 'cut-request', afterBytes }),
    'cut-reply': () => ({ kind: 'cut-reply', afterBytes }),
    'flip-request': () => ({ kind: 'flip-request', atByte: afterBytes }),
    slow: () => ({ kind: 'slow', bytesPerSecond: SLOW_BYTES_PER_SECOND }),
    'hold-reply': () => {
      const release = new Promise<void>((resolve) => {
        overtaken = resolve
        setTimeout(resolve, OVERTAKEN_MS)
      })
      return { kind: 'hold-reply', release }
    },
    'request-twice': () => ({ kind: 'request-twice' }),
    'reply-twice': () => ({ kind: 'reply-twice' }),
    'stale-reply': () => ({ kind: 'stale-reply' }),
  }
  return () => {
    count += 1
    const before = overtaken
    overtaken = undefined
    if (count < at || count - at >= times) {
      // this one's answer comes first, as a rule; no rule of the campaign depends on which it was
      if (before) setTimeout(before, 20)
      return { kind: 'pass' }
    }
    strike()
    return faults[what]()
  }
}

export function foldersOf(home: string, source: string, store: string): Readonly<Record<Place, string>> {
  const of = (name: string) => path.join(home, name)
  return {
    ...{ journal: of('journal'), known: of('known'), scratch: of('scratch') },
    ...{ source: path.dirname(source), place: path.dirname(source), store },
  }
}
