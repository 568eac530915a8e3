import { HoldfastError } from '../../shared/errors.ts'

/** The life of a job. Pure: no clock, no I/O. The same rules stand in SQL (catalog/jobs.ts guards each change of state). */

export const JOB_KINDS = ['backup', 'restore', 'validate', 'verify', 'test-restore', 'discover', 'preflight'] as const
export type JobKind = (typeof JOB_KINDS)[number]

export const JOB_STATES = [
  'queued',
  'dispatched',
  'running',
  'committing',
  'validating',
  'succeeded',
  'failed',
  'cancelled',
  'lost',
] as const
export type JobState = (typeof JOB_STATES)[number]

/** States in which an attempt is the current one: only it may report, write or commit. */
export const ACTIVE_STATES = ['dispatched', 'running', 'committing', 'validating'] as const satisfies readonly JobState[]
/** States in which the agent works; in the other active ones the control plane does, and any of them may go on with it. */
export const AGENT_STATES = ['dispatched', 'running'] as const satisfies readonly JobState[]

export interface JobError {
  readonly code: string
  readonly message: string
  readonly hint?: string | null
}

export interface Job {
  readonly kind: JobKind
  readonly state: JobState
  /** Fencing number of the last attempt; 0 before the first. */
  readonly attempt: number
  readonly maxAttempts: number
  /** It writes into a place that storage cannot fence: a restore that is not only a plan. */
  readonly writes: boolean
  readonly cancelRequested: boolean
  /** The agent said that the last attempt is over, or an operator took the risk. */
  readonly endConfirmed: boolean
  readonly error: JobError | null
}

export type JobEvent =
  /** An instance takes the job for an agent: a new attempt. */
  | { readonly type: 'dispatch' }
  /** The agent has it in its journal. May be repeated. */
  | { readonly type: 'accept'; readonly attempt: number }
  /** A backup's facts are checked and its manifest's hash is recorded. May be repeated. */
  | { readonly type: 'commit'; readonly attempt: number }
  /** The manifest is written. May be repeated. */
  | { readonly type: 'validate'; readonly attempt: number }
  | { readonly type: 'succeed'; readonly attempt: number }
  | {
      readonly type: 'fail'
      readonly attempt: number
      readonly error: JobError
      readonly retryable: boolean
      readonly by: 'agent' | 'control-plane'
    }
  /** The agent stopped because it was told to. */
  | { readonly type: 'stopped'; readonly attempt: number }
  /** Nothing was heard of the attempt for the length of its lease, or its deadline has passed. */
  | { readonly type: 'expire'; readonly attempt: number; readonly error: JobError }
  /** The agent's word that the attempt is over. */
  | { readonly type: 'confirm-end'; readonly attempt: number }
  /** An operator takes the risk that the lost attempt still writes. */
  | { readonly type: 'force' }
  | { readonly type: 'request-cancel' }

/** `lost` is not finished: it waits for the agent's word or an operator's. */
export function isFinished(state: JobState): boolean {
  return state === 'succeeded' || state === 'failed' || state === 'cancelled'
}

export function isActive(state: JobState): boolean {
  return (ACTIVE_STATES as readonly JobState[]).includes(state)
}

/**
 * The job after the event. Throws `attempt_fenced` for an event of an attempt that is not the current one, and `job_state`
 * for one that the job's state does not allow.
 */
export function transition(job: Job, event: JobEvent): Job {
  if ('attempt' in event) return ofAttempt(job, event)
  switch (event.type) {
    case 'dispatch':
      require(job, event, ['queued'])
      return { ...job, state: 'dispatched', attempt: job.attempt + 1, endConfirmed: false, error: null }
    case 'force':
      require(job, event, ['lost'])
      return settle({ ...job, endConfirmed: true })
    case 'request-cancel':
      require(job, event, ['queued', 'lost', ...ACTIVE_STATES])
      if (job.state === 'queued') return { ...job, state: 'cancelled', cancelRequested: true }
      return job.state === 'lost' ? settle({ ...job, cancelRequested: true }) : { ...job, cancelRequested: true }
  }
}

type AttemptEvent = Extract<JobEvent, { readonly attempt: number }>

function ofAttempt(job: Job, event: AttemptEvent): Job {
  if (event.type === 'confirm-end' && event.attempt === job.attempt && (job.state === 'lost' || job.state === 'queued')) {
    return job.state === 'lost' ? settle({ ...job, endConfirmed: true }) : { ...job, endConfirmed: true }
  }
  // what it wrote is whole, and nothing was started after it: only the word of it came late
  const late = event.type === 'succeed' && event.attempt === job.attempt && job.state === 'lost'
  if (late && job.writes && job.kind !== 'backup') return succeeded(job)
  if (event.attempt !== job.attempt || !isActive(job.state)) throw fenced(job, event)
  switch (event.type) {
    case 'accept':
      require(job, event, AGENT_STATES)
      return { ...job, state: 'running' }
    case 'commit':
      if (job.kind !== 'backup') throw wrongState(job, event)
      // dispatched: the word of its acceptance, which goes another way, may come later
      require(job, event, [...AGENT_STATES, 'committing'])
      return { ...job, state: 'committing' }
    case 'validate':
      require(job, event, ['committing', 'validating'])
      return { ...job, state: 'validating' }
    case 'succeed':
      require(job, event, ['running', 'validating'])
      return succeeded(job)
    case 'fail':
      if (event.by === 'agent' && isCommitted(job)) return { ...job, endConfirmed: true }
      return ended(job, event.error, event.retryable)
    case 'stopped':
      if (isCommitted(job) && !job.cancelRequested) return { ...job, endConfirmed: true }
      return ended(job, { code: 'job_cancelled', message: 'the agent stopped the attempt' }, true)
    case 'expire':
      return expired(job, event.error)
    case 'confirm-end':
      throw wrongState(job, event)
  }
}

function succeeded(job: Job): Job {
  return { ...job, state: 'succeeded', endConfirmed: true, error: null }
}

/** The attempt is over, by the word of whoever did it. */
function ended(job: Job, error: JobError, retryable: boolean): Job {
  const over = { ...job, error, endConfirmed: true }
  if (job.cancelRequested) return { ...over, state: 'cancelled' }
  // a manifest that was written is never written again: what failed then is this backup, not this attempt
  const again = retryable && job.attempt < job.maxAttempts && (AGENT_STATES as readonly JobState[]).includes(job.state)
  return { ...over, state: again ? 'queued' : 'failed' }
}

/** The agent's part is over: an agent that ends after its commit was taken makes no backup bad, the control plane decides. */
const isCommitted = (job: Job): boolean => job.state === 'committing' || job.state === 'validating'

function expired(job: Job, error: JobError): Job {
  // there is no attempt out there that could still do anything
  if (isCommitted(job)) return ended(job, error, false)
  return settle({ ...job, state: 'lost', error, endConfirmed: false })
}

/** What becomes of a lost attempt: nothing yet, where it may still be writing. */
function settle(job: Job): Job {
  if (job.writes && !job.endConfirmed) return job
  if (job.cancelRequested) return { ...job, state: 'cancelled' }
  return { ...job, state: job.attempt < job.maxAttempts ? 'queued' : 'failed' }
}

function require(job: Job, event: JobEvent, states: readonly JobState[]): void {
  if (!states.includes(job.state)) throw wrongState(job, event)
}

/** What operators ask for, in their words; the other events are the agents'. */
const IN_WORDS: Partial<Record<JobEvent['type'], string>> = {
  'request-cancel': 'be cancelled any more',
  force: 'be forced: only a lost one can',
}

function wrongState(job: Job, event: JobEvent): HoldfastError {
  return new HoldfastError(
    'job_state',
    `a ${job.kind} job that is ${job.state} cannot ${IN_WORDS[event.type] ?? `take "${event.type}"`}`,
    {
      hint: 'Look at the job again: it may have moved on since.',
    },
  )
}

function fenced(job: Job, event: AttemptEvent): HoldfastError {
  return new HoldfastError('attempt_fenced', `attempt ${event.attempt} is not the current one of a job that is ${job.state}`, {
    hint: 'Stop this attempt; a later one may already be at work.',
    context: { attempt: event.attempt, current: job.attempt, state: job.state },
  })
}

const FIRST_DELAY_MS = 15_000
const LONGEST_DELAY_MS = 30 * 60_000

/**
 * Milliseconds before the attempt after attempt number `attempt`: doubling, capped at 30 minutes, with a jitter of half of it
 * so that a fleet that failed together does not come back together. `random` is from 0 (included) to 1 (left out).
 */
export function retryDelay(attempt: number, random: number): number {
  const full = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(attempt - 1, 20))
  return Math.round(full / 2 + (full / 2) * random)
}
