import type { JobEventView, JobView } from '../../control-plane/api/schemas/jobs.ts'
import { DEFAULT_LIMITS } from '../../control-plane/server/options.ts'
import { ERRORS } from '../../shared/errors.ts'
import type { FaultKind } from './schedule.ts'

export interface Met {
  readonly fault: FaultKind
  /** It met the job at work. */
  readonly struck: boolean
}

interface StateEvent {
  readonly attempt: number
  readonly state: string
  readonly error: { readonly code: string } | null
}

/** What has to hold of a job that is over, by what it says and by what its events say of it. Throws what was broken. */
export function requireRightEnd(job: JobView, events: readonly JobEventView[], met: Met): void {
  const require = (holds: boolean, what: string) => {
    if (holds) return
    throw new Error(`${what}: the ${job.kind} ${job.id}, ${told(met)}, is ${JSON.stringify(job)} after ${JSON.stringify(events)}`)
  }
  const states = events.flatMap(stateOf)
  require(job.status !== 'failed' || job.error !== null, 'who fails says why')
  const unforeseen = job.error?.code === 'internal' || states.some(({ error }) => error?.code === 'internal')
  require(!unforeseen, 'no attempt fails with an error that is not ours')
  for (let attempt = 1; attempt <= job.attempt; attempt++) {
    const of = states.filter((one) => one.attempt === attempt)
    require(of.some(({ state }) => state === 'dispatched'), `attempt ${attempt} was given out`)
    const again = of.some(({ state, error }) => state === 'queued' && error !== null)
    require(again || attempt === job.attempt, `attempt ${attempt} was followed by another, with a reason`)
  }
  if (met.fault === 'target answers badly' && met.struck && job.status === 'failed') {
    require(!mayPass(job) || job.attempt === DEFAULT_LIMITS.maxAttempts, 'what may pass is tried again until the last attempt')
    return
  }
  // each of the others is over after one attempt at most
  require(job.status === (met.fault === 'cancelled' && met.struck ? 'cancelled' : 'succeeded'), 'what passes makes no job fail')
  require(!(met.struck && KILLS.has(met.fault)) || job.attempt > 1, 'an attempt whose process was killed is tried again')
  require(met.fault !== 'clock jumps' || job.attempt === 1, 'a clock that jumps ends no attempt')
}

const KILLS: ReadonlySet<FaultKind> = new Set(['job killed', 'agent killed'])

const told = ({ fault, struck }: Met): string => (fault === 'none' || struck ? fault : `before whose end no ${fault} came`)

function stateOf({ type, attempt, data }: JobEventView): StateEvent[] {
  return type === 'state' ? [{ ...(data as Omit<StateEvent, 'attempt'>), attempt }] : []
}

/** By the table of errors; a pre-flight fails for what it names. */
function mayPass({ error }: JobView): boolean {
  const named = error?.code === 'preflight_failed' ? /^pre-flight found (\w+)/.exec(error.message)?.[1] : error?.code
  return named !== undefined && Object.entries(ERRORS).some(([code, { retry }]) => code === named && retry)
}
