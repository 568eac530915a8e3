import { expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { RateLimiter } from './rate-limit.ts'

test('as many at once as in a minute, then evenly, and each name by itself', async () => {
  const clock = new FakeClock()
  const limiter = new RateLimiter(clock)
  const take = (name: string, times: number) => Array.from({ length: times }, () => limiter.take(name, 6)).filter(Boolean).length
  expect(take('a', 20)).toBe(6)
  expect(take('b', 20)).toBe(6)
  await clock.advance(10_000)
  expect(take('a', 20)).toBe(1)
  clock.setWall('2040-01-01T00:00:00Z')
  expect(take('a', 20), 'the wall clock gives nothing').toBe(0)
  await clock.advance(3_600_000)
  expect(take('a', 20)).toBe(6)
})

test('less than one a minute still lets the first through', async () => {
  const clock = new FakeClock()
  const limiter = new RateLimiter(clock)
  expect([limiter.take('a', 0.1, 1), limiter.take('a', 0.1, 1)]).toEqual([true, false])
  await clock.advance(600_000)
  expect(limiter.take('a', 0.1, 1)).toBe(true)
})

test('it remembers a bounded number of names, the latest ones', () => {
  const limiter = new RateLimiter(new FakeClock(), 2)
  for (const name of ['a', 'b', 'a', 'c']) limiter.take(name, 1)
  expect(limiter.take('a', 1), 'used after b: still known').toBe(false)
  expect(limiter.take('b', 1), 'forgotten').toBe(true)
})
