import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isHoldfastError } from '../../shared/errors.ts'
import { isActive, isFinished, JOB_KINDS, type Job, type JobEvent, retryDelay, transition } from './job.ts'

const fresh = (more: Partial<Job> = {}): Job => ({
  kind: 'backup',
  state: 'queued',
  attempt: 0,
  maxAttempts: 3,
  writes: false,
  cancelRequested: false,
  endConfirmed: true,
  error: null,
  ...more,
})
const error = { code: 'tool_failed', message: 'pg_dump failed' }
const run = (job: Job, ...events: JobEvent[]) => events.reduce(transition, job)
const failure = { type: 'fail', error, retryable: true, by: 'agent' } as const
const dispatch = { type: 'dispatch' } as const

describe('the life of a job', () => {
  test('a backup goes through all its states', () => {
    const attempt = 1
    const steps: [JobEvent, string][] = [
      [dispatch, 'dispatched'],
      [{ type: 'accept', attempt }, 'running'],
      [{ type: 'accept', attempt }, 'running'],
      [{ type: 'commit', attempt }, 'committing'],
      [{ type: 'commit', attempt }, 'committing'],
      [{ type: 'validate', attempt }, 'validating'],
      [{ type: 'succeed', attempt }, 'succeeded'],
    ]
    let job = fresh()
    for (const [event, state] of steps) {
      job = transition(job, event)
      expect(job.state).toBe(state)
    }
  })

  test('a commit that overtakes the word that its attempt was accepted is taken', () => {
    const committing = run(fresh(), dispatch, { type: 'commit', attempt: 1 })
    expect(committing.state).toBe('committing')
    // which comes late then, and changes nothing
    expect(() => transition(committing, { type: 'accept', attempt: 1 })).toThrow('cannot take "accept"')
  })

  test('a manifest that was written is never written again: what fails then fails the job', () => {
    const validating = run(
      fresh(),
      dispatch,
      { type: 'accept', attempt: 1 },
      { type: 'commit', attempt: 1 },
      { type: 'validate', attempt: 1 },
    )
    expect(transition(validating, { ...failure, attempt: 1, by: 'control-plane' }).state).toBe('failed')
    expect(transition(validating, { type: 'expire', attempt: 1, error }).state).toBe('failed')
  })

  test('an agent that ends after its commit was taken makes no backup bad', () => {
    const accepted = run(fresh(), dispatch, { type: 'accept', attempt: 1 })
    for (const committed of [
      run(accepted, { type: 'commit', attempt: 1 }),
      run(accepted, { type: 'commit', attempt: 1 }, { type: 'validate', attempt: 1 }),
    ]) {
      const { state } = committed
      expect(transition(committed, { ...failure, attempt: 1 })).toMatchObject({ state, error: null, endConfirmed: true })
      expect(transition(committed, { type: 'stopped', attempt: 1 })).toMatchObject({ state, error: null, endConfirmed: true })
      expect(run(committed, { type: 'request-cancel' }, { type: 'stopped', attempt: 1 }).state).toBe('cancelled')
    }
  })

  test('what may be tried again is queued until its attempts are used up', () => {
    const fail = (attempt: number) => ({ ...failure, attempt })
    const once = run(fresh({ maxAttempts: 2 }), dispatch, fail(1))
    expect(once).toMatchObject({ state: 'queued', attempt: 1, error })
    expect(run(once, dispatch, fail(2))).toMatchObject({ state: 'failed', attempt: 2 })
    expect(run(fresh(), dispatch, { ...fail(1), retryable: false }).state).toBe('failed')
  })

  test('what cannot be cancelled says so in words of whoever asked', () => {
    const done = fresh({ state: 'succeeded' })
    expect(() => transition(done, { type: 'request-cancel' })).toThrow(/succeeded cannot be cancelled any more/)
    expect(() => transition(done, { type: 'force' })).toThrow(/cannot be forced: only a lost one can/)
  })

  test('a lost restore waits for the end of its attempt to be confirmed, a cancel included', () => {
    const lost = run(
      fresh({ kind: 'restore', writes: true }),
      dispatch,
      { type: 'accept', attempt: 1 },
      { type: 'expire', attempt: 1, error },
    )
    expect(lost.state).toBe('lost')
    expect(transition(lost, { type: 'request-cancel' }).state).toBe('lost')
    expect(transition(lost, { type: 'confirm-end', attempt: 1 }).state).toBe('queued')
    expect(transition(lost, { type: 'force' }).state).toBe('queued')
    expect(run(lost, { type: 'request-cancel' }, { type: 'confirm-end', attempt: 1 }).state).toBe('cancelled')
    expect(() => transition(lost, { type: 'confirm-end', attempt: 2 })).toThrow(
      expect.objectContaining({ code: 'attempt_fenced' }),
    )
    expect(() => transition(lost, dispatch)).toThrow(expect.objectContaining({ code: 'job_state' }))
  })

  test('a lost backup is queued again at once: storage fences its attempts', () => {
    expect(run(fresh(), dispatch, { type: 'expire', attempt: 1, error }).state).toBe('queued')
  })
})

const events: fc.Arbitrary<JobEvent> = fc
  .integer({ min: 0, max: 5 })
  .chain((attempt) =>
    fc.constantFrom<JobEvent>(
      dispatch,
      { type: 'accept', attempt },
      { type: 'commit', attempt },
      { type: 'validate', attempt },
      { type: 'succeed', attempt },
      { ...failure, attempt },
      { ...failure, attempt, retryable: false },
      { ...failure, attempt, by: 'control-plane' },
      { type: 'stopped', attempt },
      { type: 'expire', attempt, error },
      { type: 'confirm-end', attempt },
      { type: 'force' },
      { type: 'request-cancel' },
    ),
  )
const jobs = fc.record({ kind: fc.constantFrom(...JOB_KINDS), writes: fc.boolean(), maxAttempts: fc.integer({ min: 1, max: 4 }) })

/** Every step that a sequence of events makes of a new job; refused events change nothing. */
function steps(start: Partial<Job>, sequence: JobEvent[]): { event: JobEvent; before: Job; after: Job | null }[] {
  let job = fresh(start)
  return sequence.map((event) => {
    const before = job
    try {
      job = transition(before, event)
      return { event, before, after: job }
    } catch (thrown) {
      if (!isHoldfastError(thrown, 'job_state') && !isHoldfastError(thrown, 'attempt_fenced')) throw thrown
      return { event, before, after: null }
    }
  })
}

const forAll = (check: (step: { event: JobEvent; before: Job; after: Job }) => void) =>
  fc.assert(
    fc.property(jobs, fc.array(events, { maxLength: 60 }), (start, sequence) => {
      for (const { event, before, after } of steps(start, sequence)) if (after) check({ event, before, after })
    }),
    { numRuns: 500 },
  )

describe('property, from any sequence of events', () => {
  test('a finished job never changes', () => forAll(({ before }) => expect(isFinished(before.state)).toBe(false)))

  test('attempts only grow, by one, and never beyond their number but for a forced or confirmed end', () =>
    forAll(({ event, before, after }) => {
      expect(after.attempt - before.attempt).toBe(event.type === 'dispatch' ? 1 : 0)
      expect(after.attempt).toBeLessThanOrEqual(after.maxAttempts)
    }))

  test('there are never two current attempts: a new one is dispatched only when none is active', () =>
    forAll(({ event, before }) => {
      if (event.type === 'dispatch') expect(isActive(before.state)).toBe(false)
    }))

  test('a fenced attempt cannot report, commit or succeed', () =>
    forAll(({ event, before }) => {
      if (!('attempt' in event)) return
      expect(event.attempt).toBe(before.attempt)
      if (event.type === 'succeed' && before.state === 'lost') expect(before.writes).toBe(true)
      else if (event.type !== 'confirm-end') expect(isActive(before.state)).toBe(true)
    }))

  test('only a backup commits, and it succeeds only when it was validated or stored nothing', () =>
    forAll(({ event, before, after }) => {
      if (after.state === 'committing') expect(after.kind).toBe('backup')
      if (event.type === 'succeed') expect(['running', 'validating', 'lost']).toContain(before.state)
      if (event.type === 'succeed' && before.kind === 'backup') expect(before.state).not.toBe('lost')
    }))

  test('a writing job is never started again before the end of its attempt is confirmed', () =>
    forAll(({ event, before }) => {
      if (event.type === 'dispatch' && before.writes) expect(before.endConfirmed).toBe(true)
    }))

  test('nothing stays running for ever: when its leases expire, every job ends or waits for a person', () =>
    fc.assert(
      fc.property(jobs, fc.array(events, { maxLength: 30 }), (start, sequence) => {
        let job = steps(start, sequence).reduce((at, step) => step.after ?? at, fresh(start))
        for (let round = 0; round < 12 && !isFinished(job.state) && job.state !== 'lost'; round++) {
          job = transition(job, job.state === 'queued' ? dispatch : { type: 'expire', attempt: job.attempt, error })
        }
        if (job.state === 'lost') expect(job.writes).toBe(true)
        else expect(isFinished(job.state)).toBe(true)
      }),
      { numRuns: 500 },
    ))
})

test('waits grow, stay within half an hour, and differ between jobs', () => {
  expect([1, 2, 3].map((attempt) => retryDelay(attempt, 0))).toEqual([7500, 15_000, 30_000])
  expect(retryDelay(1, 0.999)).toBeLessThanOrEqual(15_000)
  expect(retryDelay(99, 0.999)).toBeLessThanOrEqual(1_800_000)
  expect(retryDelay(99, 0)).toBe(900_000)
})
