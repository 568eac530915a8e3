import { expect, it } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { Lease } from './lease.ts'

it('a restore fences itself when its lease ends by its own monotonic clock', async () => {
  const clock = new FakeClock()
  const lease = new Lease(clock, 60_000)
  const controller = new AbortController()
  void lease.watch(controller)
  await clock.advance(59_999)
  lease.check()
  expect(controller.signal.aborted).toBe(false)
  await clock.advance(1)
  expect(controller.signal.aborted).toBe(true)
  expect(() => lease.check()).toThrow('not heard')
})

it('each sign of life extends it, and an old one never shortens it', async () => {
  const clock = new FakeClock()
  const lease = new Lease(clock, 60_000)
  const controller = new AbortController()
  void lease.watch(controller)
  await clock.advance(50_000)
  lease.extend(60_000)
  lease.extend(1)
  await clock.advance(59_000)
  expect(controller.signal.aborted).toBe(false)
  await clock.advance(1_000)
  expect(controller.signal.aborted).toBe(true)
})

it('wall time set back or forward changes nothing', async () => {
  const clock = new FakeClock()
  const lease = new Lease(clock, 60_000)
  clock.setWall('2030-01-01T00:00:00Z')
  lease.check()
  await clock.advance(60_000)
  clock.setWall('2020-01-01T00:00:00Z')
  expect(() => lease.check()).toThrow('not heard')
})
