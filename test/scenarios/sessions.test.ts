import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { parseAddress } from '../../agent/link/address.ts'
import { agentsChannel, clientsOn } from '../../agent/link/channel.ts'
import type { AgentIdentity } from '../../agent/link/identity.ts'
import { agentById } from '../../control-plane/catalog/identity-agents.ts'
import { openSessionOfAgent, requireCurrentEpoch } from '../../control-plane/catalog/identity-sessions.ts'
import { systemClock } from '../../shared/clock.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import {
  ConnectRequest,
  type ConnectResponse,
  Hello,
  SessionEndReason,
  Source,
} from '../../shared/generated/holdfast/agent/v1/session.ts'
import { MessageQueue } from '../../shared/message-queue.ts'
import { RecordingHandler, TestFleet, type TestPlane } from '../harness/fleet.ts'
import { tookByClock, waitFor } from '../harness/wait.ts'

let fleet: TestFleet
let raw: Array<{ close(): void }>
beforeEach(async () => {
  fleet = await TestFleet.start()
  raw = []
})
afterEach(async () => {
  for (const stream of raw) stream.close()
  await fleet.dispose()
})

/** In the place of the fleet that goes by the machine's clock. */
async function onItsOwnClock() {
  await fleet.dispose()
  const clock = new FakeClock(new Date())
  fleet = await TestFleet.start(clock)
  return { clock, fleet }
}

const accepted = (n: number) =>
  ConnectRequest.create({ message: { $case: 'jobAccepted', value: { jobId: `j${n}`, attempt: n } } })

/** A stream without the agent's program: says only what it is told to. */
function rawStream(identity: AgentIdentity, plane: TestPlane, hello?: Partial<Hello>, options: { reads?: boolean } = {}) {
  const channel = agentsChannel(identity, parseAddress(plane.agents))
  const out = new MessageQueue<ConnectRequest>(1000)
  const aborter = new AbortController()
  const answers: Array<NonNullable<ConnectResponse['message']>> = []
  const responses = clientsOn(channel, systemClock).sessions.connect(out, { signal: aborter.signal })[Symbol.asyncIterator]()
  const read = async () => {
    for (;;) {
      const next = await responses.next()
      if (next.done) return 'ended'
      if (next.value.message) answers.push(next.value.message)
    }
  }
  const base = { protocolMin: 1, protocolMax: 1, agentVersion: '1', instance: 'raw', ageRecipient: identity.ageRecipient }
  if (hello) out.offer(ConnectRequest.create({ message: { $case: 'hello', value: Hello.fromPartial({ ...base, ...hello }) } }))
  const done = options.reads === false ? null : read().catch((error: { code: string; message: string; hint?: string }) => error)
  const stream = {
    answers,
    out,
    responses,
    done,
    end: () => answers.find((answer) => answer.$case === 'sessionEnded')?.value,
    close: () => {
      aborter.abort()
      channel.close()
    },
  }
  raw.push(stream)
  return stream
}

describe('a stream', () => {
  test('an agent connects, says what it is, and messages go both ways in order', async () => {
    const plane = await fleet.plane()
    const { home } = await fleet.enrolled(plane, 'db1')
    const commands: unknown[] = []
    const source = Source.fromPartial({ name: 'app', engine: 'postgres', facts: { version: '15' } })
    const link = await fleet.link(home, {
      onCommand: (command) => void commands.push(command),
      describe: () => ({ sources: [source], journal: [], labels: { env: 'test' } }),
    })
    await waitFor('the link', () => link.connected)
    const session = await waitFor('the session', () => plane.servers.sessions.get(link.identity.agentId))
    expect(plane.handler.connected[0]?.hello.sources).toEqual([source])
    expect(await agentById(fleet.catalog.db, session.agentId)).toMatchObject({ labels: { env: 'test' }, version: '0.0.0-test' })
    for (let n = 1; n <= 200; n++) {
      await session.send({ $case: 'cancelJob', value: { jobId: `j${n}`, attempt: n, reason: 'test' } })
      expect(link.send(accepted(n))).toBe(true)
    }
    await waitFor('the messages', () => plane.handler.messages.length === 200 && commands.length === 200)
    expect(plane.handler.messages.map(({ message }) => message)).toEqual(
      Array.from({ length: 200 }, (_, n) => accepted(n + 1).message),
    )
    expect(commands).toMatchObject(Array.from({ length: 200 }, (_, n) => ({ $case: 'cancelJob', value: { attempt: n + 1 } })))
    expect(link.lastHeardMonotonicMs()).toBeGreaterThan(0)
  })

  test('versions are negotiated with a typed refusal', async () => {
    const plane = await fleet.plane()
    const { identity } = await fleet.enrolled(plane, 'db1')
    const newer = await rawStream(identity, plane, { protocolMin: 2, protocolMax: 3 }).done
    expect(newer).toMatchObject({ code: 'protocol_unsupported', hint: 'Update the control plane.' })
    const older = await rawStream(identity, plane, { protocolMin: 0, protocolMax: 0 }).done
    expect(older).toMatchObject({ code: 'protocol_unsupported', hint: 'Update the agent.' })
    const wide = rawStream(identity, plane, { protocolMin: 1, protocolMax: 9 })
    const welcome = await waitFor('the welcome', () => wide.answers.find((answer) => answer.$case === 'welcome'))
    expect(welcome.value).toMatchObject({ protocol: 1, epoch: 1n })
  })

  test('it has to begin with a hello, which is checked', async () => {
    const plane = await fleet.plane()
    const { identity } = await fleet.enrolled(plane, 'db1')
    const early = rawStream(identity, plane)
    early.out.offer(accepted(1))
    expect(await early.done).toMatchObject({ code: 'invalid_argument' })
    const source = (name: string) => Source.fromPartial({ name, engine: 'files' })
    const hostile: Array<Partial<Hello>> = [
      { agentVersion: 'x'.repeat(201) },
      { os: 'line\nbreak' },
      { labels: { 'a\u0000b': 'c' } },
      { labels: Object.fromEntries(Array.from({ length: 101 }, (_, n) => [`k${n}`, ''])) },
      { sources: [source('../etc')] },
      { sources: [source('a'), source('a')] },
      { sources: [Source.fromPartial({ name: 'a', engine: 'rm -rf' })] },
      { sources: Array.from({ length: 2001 }, (_, n) => source(`s${n}`)) },
      { ageRecipient: 'age1nobody' },
    ]
    for (const hello of hostile) {
      expect(await rawStream(identity, plane, hello).done, JSON.stringify(hello).slice(0, 100)).toMatchObject({
        code: 'invalid_argument',
      })
    }
    const large = rawStream(identity, plane, {})
    const log = { jobId: 'j', attempt: 1, number: 1n, level: 'info', message: 'x'.repeat(70_000), clockMs: 0n }
    large.out.offer(ConnectRequest.create({ message: { $case: 'jobLog', value: log } }))
    expect(await large.done).toMatchObject({ code: 'invalid_argument', message: expect.stringContaining('message') })
    const twice = rawStream(identity, plane, {})
    twice.out.offer(ConnectRequest.create({ message: { $case: 'hello', value: Hello.fromPartial({}) } }))
    expect(await twice.done).toMatchObject({ code: 'invalid_argument', message: expect.stringContaining('twice') })
  })

  test('an agent that reads slowly holds its sender back, and loses nothing', async () => {
    const plane = await fleet.plane()
    const { identity } = await fleet.enrolled(plane, 'db1')
    const stream = rawStream(identity, plane, {}, { reads: false })
    const welcome = await stream.responses.next()
    expect(welcome.value?.message?.$case).toBe('welcome')
    const session = await waitFor('the session', () => plane.servers.sessions.get(identity.agentId))
    const reason = 'x'.repeat(100_000)
    const total = 200
    let sent = 0
    const sending = (async () => {
      for (let n = 1; n <= total; n++) {
        await session.send({ $case: 'cancelJob', value: { jobId: 'j', attempt: n, reason } })
        sent = n
      }
    })()
    const held = await stableCount(() => sent)
    expect(held).toBeLessThan(total)
    const seen: number[] = []
    while (seen.length < total) {
      const next = await stream.responses.next()
      if (next.value?.message?.$case === 'cancelJob') seen.push(next.value.message.value.attempt)
    }
    await sending
    expect(seen).toEqual(Array.from({ length: total }, (_, n) => n + 1))
  })

  test('a message that cannot be handled ends it, so that the agent comes back and sends again', async () => {
    class Failing extends RecordingHandler {
      failures = 1
      override async onMessage(...args: Parameters<RecordingHandler['onMessage']>) {
        if (this.failures-- > 0) throw new Error('the catalog was away')
        await super.onMessage(...args)
      }
    }
    const handler = new Failing()
    const plane = await fleet.plane({ handler })
    const { home } = await fleet.enrolled(plane, 'db1')
    const link = await fleet.link(home, { onConnected: () => queueMicrotask(() => link.send(accepted(7))) })
    await waitFor('the second try', () => handler.messages.length === 1)
    expect(handler.connected.map(({ session }) => session.epoch)).toEqual([1, 2])
    expect(handler.closed.map((session) => session.epoch)).toEqual([1])
  })

  test('what the agent said before it hung up is still handled', async () => {
    class Slow extends RecordingHandler {
      override async onMessage(...args: Parameters<RecordingHandler['onMessage']>) {
        await new Promise((resolve) => setImmediate(resolve))
        await super.onMessage(...args)
      }
    }
    const handler = new Slow()
    const plane = await fleet.plane({ handler })
    const { home } = await fleet.enrolled(plane, 'db1')
    const link = await fleet.link(home)
    await waitFor('the link', () => link.connected)
    for (let n = 1; n <= 100; n++) link.send(accepted(n))
    await link.close()
    await waitFor('the end', () => handler.closed.length === 1)
    expect(handler.messages).toHaveLength(100)
  })
})

describe('sessions(agent, instance, epoch): a new stream takes a new epoch, and writes by older epochs are refused', () => {
  test('on one control plane', async () => {
    const plane = await fleet.plane()
    const { identity } = await fleet.enrolled(plane, 'db1')
    const first = rawStream(identity, plane, { instance: 'one' })
    const old = await waitFor('the first', () => plane.servers.sessions.get(identity.agentId))
    await fleet.catalog.transaction((tx) => requireCurrentEpoch(tx, old))
    rawStream(identity, plane, { instance: 'two' })
    const end = await waitFor('the end of the first', () => first.end())
    expect(end).toMatchObject({ reason: SessionEndReason.REPLACED })
    const current = await waitFor('the second', () => plane.servers.sessions.get(identity.agentId))
    expect([old.epoch, current.epoch]).toEqual([1, 2])
    expect(old.signal.aborted).toBe(true)
    await expect(fleet.catalog.transaction((tx) => requireCurrentEpoch(tx, old))).rejects.toMatchObject({
      code: 'session_superseded',
    })
    await fleet.catalog.transaction((tx) => requireCurrentEpoch(tx, current))
    await expect(old.send({ $case: 'heartbeat', value: { number: 1n } })).rejects.toMatchObject({ code: 'session_superseded' })
  })

  test('an instance holds only its own streams: one that moved ends where it was', async () => {
    const { clock, fleet } = await onItsOwnClock()
    const [one, two] = [await fleet.plane(), await fleet.plane()]
    const { identity } = await fleet.enrolled(one, 'db1')
    const first = rawStream(identity, one, {})
    await waitFor('the stream on one', () => one.servers.sessions.get(identity.agentId))
    rawStream(identity, two, {})
    await waitFor('the stream on two', () => two.servers.sessions.get(identity.agentId))
    expect(await tookByClock('the end on one', clock, () => first.end() !== undefined)).toBeLessThan(5000)
    expect(first.end()).toMatchObject({ reason: SessionEndReason.REPLACED })
    expect(one.servers.sessions.get(identity.agentId)).toBeUndefined()
    expect(await openSessionOfAgent(fleet.catalog.db, identity.agentId)).toMatchObject({ instanceId: two.instanceId, epoch: 2 })
  })
})

describe('silence', () => {
  test('an agent that is not heard for the lease loses its stream; heartbeats keep it', async () => {
    const clock = new FakeClock(new Date())
    const quiet = await TestFleet.start(clock)
    try {
      const plane = await quiet.plane()
      const { identity } = await quiet.enrolled(plane, 'db1')
      const stream = rawStream(identity, plane, {})
      await waitFor('the session', () => plane.servers.sessions.get(identity.agentId))
      for (let n = 1n; n <= 10n; n++) {
        stream.out.offer(ConnectRequest.create({ message: { $case: 'heartbeat', value: { number: n } } }))
        stream.out.offer(accepted(Number(n)))
        await waitFor('what came with the heartbeat', () => plane.handler.messages.length === Number(n))
        await clock.advance(20_000)
      }
      expect(stream.end()).toBeUndefined()
      await clock.advance(62_000)
      expect(await waitFor('the end', () => stream.end())).toMatchObject({
        message: expect.stringContaining('nothing was heard'),
      })
    } finally {
      await quiet.dispose()
    }
  })

  test('a control plane that is not heard for the lease is left for a new stream', async () => {
    const plane = await fleet.plane({ settings: { heartbeatSeconds: 10, leaseSeconds: 60 } })
    const { home } = await fleet.enrolled(plane, 'db1')
    const clock = new FakeClock(new Date())
    const link = await fleet.link(home, { clock })
    await waitFor('the link', () => link.connected)
    // within the lease it waits
    await clock.advance(50_000)
    expect(link.connected).toBe(true)
    expect(plane.handler.connected).toHaveLength(1)
    await clock.advance(30_000)
    await waitFor('the second stream', async () => {
      await clock.advance(500)
      return plane.handler.connected.length === 2
    })
  })

  test('a hello that does not come ends the stream', async () => {
    const clock = new FakeClock(new Date())
    const quiet = await TestFleet.start(clock)
    try {
      const plane = await quiet.plane()
      const { identity } = await quiet.enrolled(plane, 'db1')
      const stream = rawStream(identity, plane)
      const error = await waitFor('the refusal', async () => {
        await clock.advance(1000)
        return Promise.race([stream.done, new Promise<null>((resolve) => setTimeout(() => resolve(null), 20))])
      })
      expect(error).toMatchObject({ code: 'invalid_argument', message: expect.stringContaining('begin with a hello') })
    } finally {
      await quiet.dispose()
    }
  })
})

describe('a control plane that stops', () => {
  test('tells its agents, which find it again when it is back', async () => {
    const plane = await fleet.plane()
    const { home } = await fleet.enrolled(plane, 'db1')
    const link = await fleet.link(home)
    await waitFor('the link', () => link.connected)
    await plane.servers.close()
    await waitFor('the end', () => !link.connected)
    const at = (port: number) => ({ host: '127.0.0.1', port })
    const back = await fleet.plane({
      listen: { agents: at(plane.servers.agentsPort), enrolment: at(plane.servers.enrolmentPort) },
    })
    await waitFor('the link again', () => link.connected)
    expect(back.handler.connected[0]?.session.epoch).toBe(2)
  })

  test('whose catalog is away ends its streams, since it could not know of a revocation', async () => {
    const { clock, fleet } = await onItsOwnClock()
    let away = false
    const { catalog } = fleet
    const flaky = {
      ...catalog,
      get db() {
        if (away) throw new Error('connection refused')
        return catalog.db
      },
    }
    const plane = await fleet.plane({ catalog: flaky, settings: { pollMs: 500 } })
    const { identity } = await fleet.enrolled(plane, 'db1')
    const stream = rawStream(identity, plane, {})
    await waitFor('the session', () => plane.servers.sessions.get(identity.agentId))
    away = true
    expect(await tookByClock('the end', clock, () => stream.end() !== undefined)).toBeLessThan(5000)
    expect(stream.end()).toMatchObject({ reason: SessionEndReason.SHUTTING_DOWN })
    away = false
  })
})

/** A number that has stopped rising: looked at until it is the same for a while. */
async function stableCount(count: () => number): Promise<number> {
  let last = -1
  let same = 0
  return waitFor('the sender to be held back', () => {
    same = count() === last ? same + 1 : 0
    last = count()
    return same > 20 && last > 0 ? last : null
  })
}
