import { afterEach, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { waitFor } from '../../test/harness/wait.ts'
import { eventStream } from './events.ts'
import type { JobEventView } from './schemas/jobs.ts'
import { authorization, type FakeApi, fakeApi } from './testing/fake-api.ts'
import { JOB } from './testing/fake-operations.ts'

let api: FakeApi | undefined
afterEach(async () => {
  await api?.app.close()
  api = undefined
})

const event = (id: number, type: JobEventView['type'] = 'log'): JobEventView => ({
  id,
  type,
  at: '2026-11-21T02:00:00.000Z',
  attempt: 1,
  data: { message: 'line\nbreak' },
})
/** Gives what it has, then waits until it is told to end. */
async function* endless(signal: AbortSignal, ...events: JobEventView[]): AsyncGenerator<JobEventView> {
  yield* events
  if (!signal.aborted) await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
const settled = () => new Promise((resolve) => setImmediate(resolve))

test('events have their id and type, and the stream ends with the job', async () => {
  api = await fakeApi({
    events: async function* () {
      yield event(7)
      yield { ...event(1, 'progress'), id: null }
      yield event(9, 'state')
    },
  })
  const answer = await api.app.inject({ url: `/api/v1/jobs/${JOB}/events`, headers: authorization('viewer') })
  expect(answer.headers['content-type']).toBe('text/event-stream; charset=utf-8')
  expect(answer.body.split('\n\n').map((block) => block.split('\n').filter((line) => !line.startsWith('data')))).toEqual([
    ['retry: 2000'],
    ['id: 7', 'event: log'],
    ['event: progress'],
    ['id: 9', 'event: state'],
    ['event: end'],
    [''],
  ])
})

test('a stream resumes after the last event that was received', async () => {
  const asked: number[] = []
  api = await fakeApi({
    events: async function* (_id, { after }) {
      asked.push(after)
    },
  })
  const get = (headers: object) =>
    api?.app.inject({ url: `/api/v1/jobs/${JOB}/events`, headers: { ...authorization('viewer'), ...headers } })
  await get({})
  await get({ 'last-event-id': '42' })
  expect(asked).toEqual([0, 42])
  expect((await get({ 'last-event-id': 'x' }))?.statusCode).toBe(400)
})

test('a quiet stream is kept open by comments', async () => {
  const clock = new FakeClock()
  const stop = new AbortController()
  const stream = eventStream({ events: endless(stop.signal), allowed: async () => true, clock, stop })
  await stream.next()
  const next = stream.next()
  await settled()
  await clock.advance(15_000)
  expect((await next).value).toBe(': alive\n\n')
  await stream.return(undefined)
})

test('rights are asked again every minute, and the stream ends without them', async () => {
  const clock = new FakeClock()
  const stop = new AbortController()
  let allowed = true
  let asked = 0
  const stream = eventStream({
    events: endless(stop.signal),
    allowed: async () => {
      asked++
      return allowed
    },
    clock,
    stop,
  })
  const seen: string[] = []
  const reading = (async () => {
    for await (const text of stream) seen.push(text)
  })()
  for (let second = 0; second < 75; second += 15) {
    await settled()
    await clock.advance(15_000)
  }
  expect(asked).toBe(1)
  allowed = false
  for (let second = 0; second < 60; second += 15) {
    await settled()
    await clock.advance(15_000)
  }
  await reading
  expect(seen.at(-1)).toBe('event: revoked\ndata: {}\n\n')
  expect(stop.signal.aborted).toBe(true)
})

test('a client that goes away, or a server that stops, ends the work behind the stream', async () => {
  let ended = 0
  let opened = (): void => undefined
  api = await fakeApi({
    events: async function* (_id, { signal }) {
      opened()
      yield* endless(signal, event(1))
      ended++
    },
  })
  const address = await api.app.listen({ host: '127.0.0.1', port: 0 })
  const open = async (signal?: AbortSignal) => {
    const ready = new Promise<void>((resolve) => (opened = resolve))
    const answer = await fetch(`${address}/api/v1/jobs/${JOB}/events`, {
      headers: authorization('viewer'),
      ...(signal ? { signal } : {}),
    })
    await ready
    return answer
  }
  const leaving = new AbortController()
  await open(leaving.signal)
  leaving.abort()
  await waitFor('the work to end', () => ended === 1)
  const second = await open()
  await api.app.close()
  expect(ended).toBe(2)
  expect(await second.text()).toContain('id: 1')
})
