import { describe, expect, test } from 'vitest'
import { HoldfastError } from '../../shared/errors.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import type { JobContext } from './context.ts'
import { waitForUnlock } from './unlock.ts'

type Answer = { unlocked: boolean; remainingSeconds: number } | HoldfastError

function waiting(answers: (call: number) => Answer) {
  const clock = new FakeClock()
  const stop = new AbortController()
  const phases: unknown[] = []
  let calls = 0
  const job = {
    clock,
    signal: stop.signal,
    command: { jobId: 'j1' },
    report: ({ phase }: { phase: string }) => phases.push(phase),
    parent: {
      askUnlock: async () => {
        const answer = answers(++calls)
        if (answer instanceof HoldfastError) throw answer
        return answer
      },
    },
  } as unknown as JobContext
  let over = false
  const ended = waitForUnlock(job, 'age1job').finally(() => {
    over = true
  })
  ended.catch(() => undefined)
  const pass = async (ms: number) => {
    for (let passed = 0; passed < ms && !over; passed += 1000) await clock.advance(1000)
  }
  return { ended, pass, stop, phases, calls: () => calls, over: () => over }
}
const notYet = { unlocked: false, remainingSeconds: 3600 }

describe('a job that waits to be unlocked', () => {
  test('says so, and goes on once it is; asked too often by all jobs of the host, it asks again', async () => {
    const wait = waiting((call) => {
      if (call === 2) return new HoldfastError('rate_limited', 'too many')
      return call < 5 ? notYet : { unlocked: true, remainingSeconds: 0 }
    })
    await wait.pass(60_000)
    await wait.ended
    expect(wait.calls()).toBe(5)
    expect(wait.phases).toEqual(['unlock'])
  })

  test('ends when the control plane says so, or by its own clock when that never does', async () => {
    const told = waiting((call) => (call < 3 ? notYet : new HoldfastError('unlock_expired', 'nobody came')))
    await told.pass(60_000)
    await expect(told.ended).rejects.toMatchObject({ code: 'unlock_expired' })
    const silent = waiting(() => notYet)
    await silent.pass(3500_000)
    expect(silent.over()).toBe(false)
    await silent.pass(200_000)
    await expect(silent.ended).rejects.toMatchObject({ code: 'unlock_expired', retry: false })
  })

  test('ends at once when it is cancelled', async () => {
    const wait = waiting(() => notYet)
    await wait.pass(5000)
    wait.stop.abort(new HoldfastError('job_cancelled', 'cancelled'))
    await expect(wait.ended).rejects.toMatchObject({ code: 'job_cancelled' })
  })
})
