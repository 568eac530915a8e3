import { expect, it, vi } from 'vitest'
import { HoldfastError } from '../../shared/errors.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import { type CallDeps, jobCalls } from './job-calls.ts'

const LIMIT_MS = 60_000

function callsThat(signGets: CallDeps['objects']['signGets'], clock: FakeClock) {
  const deps = { objects: { signGets }, clock, offlineLimitMs: LIMIT_MS } as unknown as CallDeps
  return jobCalls(deps, { jobId: 'job-1', attempt: 1 }, new AbortController().signal)
}

async function advanceUntil<T>(clock: FakeClock, settled: Promise<T>): Promise<T> {
  let over = false
  const done = settled.finally(() => {
    over = true
  })
  done.catch(() => undefined)
  while (!over) await clock.advance(1000)
  return done
}

it.each(['control_plane_unreachable', 'deadline_exceeded', 'catalog_unreachable'] as const)(
  'a call that fails with %s waits for the control plane instead of ending the job',
  async (code) => {
    const clock = new FakeClock()
    let calls = 0
    const call = callsThat(async () => {
      calls += 1
      if (calls < 4) throw new HoldfastError(code, 'away')
      return { requests: [] } as never
    }, clock)
    await advanceUntil(clock, call.signGets([]))
    expect(calls).toBe(4)
  },
)

it('a control plane that stays away ends the attempt with agent_offline after the offline limit, to be tried again', async () => {
  const clock = new FakeClock()
  const call = callsThat(async () => {
    throw new HoldfastError('control_plane_unreachable', 'away')
  }, clock)
  const failure = await advanceUntil(clock, call.signGets([])).catch((error: unknown) => error)
  expect(failure).toMatchObject({ code: 'agent_offline', retry: true })
  expect(clock.monotonicMs()).toBeGreaterThan(LIMIT_MS - 10_000)
})

it('what the control plane refuses is not asked again', async () => {
  let calls = 0
  const call = callsThat(async () => {
    calls += 1
    throw new HoldfastError('attempt_fenced', 'a later attempt is the current one')
  }, new FakeClock())
  await expect(call.signGets([])).rejects.toMatchObject({ code: 'attempt_fenced' })
  expect(calls).toBe(1)
})

it.each([
  ['object_missing', 1],
  ['backup_invalid', 0],
] as const)(
  'a commit refused with %s: what the store confirmed is believed no more, so that the next attempt sends it',
  async (code, times) => {
    const forgetPacks = vi.fn(async () => undefined)
    const commitBackup = async () => Promise.reject(new HoldfastError(code, 'refused', { retry: true }))
    const deps = {
      objects: { commitBackup },
      journal: { forgetPacks },
      signFacts: () => ({}),
      clock: new FakeClock(),
      offlineLimitMs: LIMIT_MS,
    }
    const calls = jobCalls(deps as unknown as CallDeps, { jobId: 'job-1', attempt: 1 }, new AbortController().signal)
    await expect(calls.commitBackup({ facts: {} as never, detail: {} as never })).rejects.toMatchObject({ code })
    expect(forgetPacks).toHaveBeenCalledTimes(times)
  },
)
