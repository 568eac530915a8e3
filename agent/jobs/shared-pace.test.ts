import { expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { Throttle } from '../transfer/throttle.ts'
import { SharedPace } from './shared-pace.ts'

const { signal } = new AbortController()
const settle = () => new Promise((resolve) => setImmediate(resolve))

test('jobs share the rate of their agent: together they get it, and one alone gets the whole', async () => {
  const clock = new FakeClock()
  const throttle = new Throttle(1_000_000, clock)
  const job = () => new SharedPace(1_000_000, (bytes) => throttle.take(bytes, signal))
  const send = async (pace: SharedPace, bytes: number) => {
    for (let sent = 0; sent < bytes; sent += 10_000) await pace.take(10_000, signal)
    return clock.monotonicMs()
  }
  const [one, other] = [job(), job()]
  const both = Promise.all([send(one, 2_000_000), send(other, 2_000_000)])
  await settle()
  await clock.advance(10_000)
  // four million bytes, of which a quarter of a second passes at once
  expect(Math.max(...(await both))).toBe(3750)
  const alone = send(one, 2_000_000)
  await settle()
  await clock.advance(10_000)
  expect((await alone) - 10_000).toBe(1750)
})

test('without a rate the agent is not asked, and a share of an old, higher rate is not used up at a new one', async () => {
  const asked: number[] = []
  const pace = new SharedPace(null, async (bytes) => void asked.push(bytes))
  await pace.take(1_000_000_000, signal)
  expect(asked).toEqual([])
  pace.set(20_000_000)
  await pace.take(1000, signal)
  expect(asked).toEqual([1_000_000])
  pace.set(1_000_000)
  for (let n = 0; n < 51; n++) await pace.take(1000, signal)
  expect(asked).toEqual([1_000_000, 50_000])
})

test('a wait ends at once when the rate is lifted, and when the job is aborted', async () => {
  const stop = new AbortController()
  const grant = Promise.withResolvers<void>()
  const pace = new SharedPace(1_000_000, () => grant.promise)
  const aborted = pace.take(10, stop.signal)
  const waiting = pace.take(10, signal)
  stop.abort(new Error('cancelled'))
  await expect(aborted).rejects.toThrow('cancelled')
  pace.set(null)
  grant.resolve()
  await waiting
})
