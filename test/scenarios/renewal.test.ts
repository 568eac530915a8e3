import { createPublicKey, sign } from 'node:crypto'
import { cp, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { parseAddress } from '../../agent/link/address.ts'
import { agentsChannel, clientsOn, enrolmentChannel } from '../../agent/link/channel.ts'
import { type AgentIdentity, pendingKey, readIdentity, renewalPurpose } from '../../agent/link/identity.ts'
import { renew, renewLate } from '../../agent/link/renew.ts'
import { agentById } from '../../control-plane/catalog/identity-agents.ts'
import { newestCertificate } from '../../control-plane/catalog/identity-certificates.ts'
import { revokeAgent } from '../../control-plane/usecases/revoke-agent.ts'
import { systemClock } from '../../shared/clock.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import { lateRenewalBytes } from '../../shared/protocol.ts'
import { newSigningRequest } from '../../shared/x509/authority.ts'
import { recordingLog, TestFleet, type TestPlane } from '../harness/fleet.ts'
import { waitFor } from '../harness/wait.ts'

let clock: FakeClock
let fleet: TestFleet
beforeEach(async () => {
  clock = new FakeClock(new Date())
  fleet = await TestFleet.start(clock)
})
afterEach(() => fleet.dispose())

const HOUR = 3_600_000
const later = (ms: number) => clock.setWall(new Date(clock.now().getTime() + ms))
const audited = (action: string) => fleet.audit.filter((event) => event.action === action)
/** Quiet enough that a test can let hours pass. */
const slow = { pollMs: HOUR, heartbeatSeconds: 86_400, leaseSeconds: 8_640_000 }

/** A unary call of this identity, for what it is answered. */
async function callAs(identity: AgentIdentity, plane: TestPlane): Promise<string> {
  const channel = agentsChannel(identity, parseAddress(plane.agents))
  try {
    const call = clientsOn(channel, systemClock).objects.signPuts({ jobId: 'j', attempt: 1, objects: [] })
    return await call.then(
      () => 'ok',
      (error: { code: string }) => error.code,
    )
  } finally {
    channel.close()
  }
}

async function renewAs(identity: AgentIdentity, home: string, plane: TestPlane) {
  const channel = agentsChannel(identity, parseAddress(plane.agents))
  try {
    return await renew(identity, home, clientsOn(channel, systemClock))
  } finally {
    channel.close()
  }
}

describe('certificates last 24 hours and are renewed at two thirds', () => {
  test('by the monotonic clock, without a wish of anybody, and the older one is out of use once the newer is in use', async () => {
    const plane = await fleet.plane({ settings: slow })
    const { home, identity } = await fleet.enrolled(plane, 'db1')
    expect(identity.notAfter.getTime() - clock.now().getTime()).toBeGreaterThan(23.9 * HOUR)
    expect(identity.notAfter.getTime() - clock.now().getTime()).toBeLessThanOrEqual(24 * HOUR)
    const agentClock = new FakeClock(new Date())
    const link = await fleet.link(home, { clock: agentClock })
    await waitFor('the link', () => link.connected)
    await agentClock.advance(15 * HOUR)
    expect(link.identity.generation).toBe(1)
    // the wall clock goes back by a year: that prolongs nothing
    agentClock.setWall('2025-01-01T00:00:00Z')
    await agentClock.advance(1.1 * HOUR)
    await waitFor('the second stream', () => plane.handler.connected.length === 2 && link.connected)
    expect(link.identity.generation).toBe(2)
    expect((await readIdentity(home))?.generation).toBe(2)
    expect(audited('agent.renew')).toMatchObject([{ actor: 'agent:db1', outcome: 'done', detail: { generation: 2 } }])
    expect(await callAs(link.identity, plane)).toBe('attempt_fenced')
    expect(await callAs(identity, plane)).toBe('certificate_superseded')
  })

  test('a stream ends when its certificate ends, whatever the wall clock says', async () => {
    const plane = await fleet.plane({ settings: { ...slow, certificateLifetimeMs: 10 * HOUR } })
    const { home } = await fleet.enrolled(plane, 'db1')
    // an agent that never renews: its clock stands still
    const { log, lines } = recordingLog()
    const link = await fleet.link(home, { clock: new FakeClock(new Date()), log })
    await waitFor('the link', () => link.connected)
    const session = plane.servers.sessions.get(link.identity.agentId)
    later(-5 * HOUR)
    await clock.advance(10 * HOUR - 60_000)
    expect(session?.signal.aborted).toBe(false)
    await clock.advance(60_000)
    expect(session?.signal.aborted).toBe(true)
    await waitFor('the word', () =>
      lines.find((line) => String(line.reason).includes('certificate that opened this stream has ended')),
    )
  })

  test('a call after its end is refused although TLS let the connection in', async () => {
    const plane = await fleet.plane()
    const { identity } = await fleet.enrolled(plane, 'db1')
    later(24 * HOUR + 1000)
    expect(await callAs(identity, plane)).toBe('certificate_expired')
  })
})

describe('each renewal presents the current generation', () => {
  test('a lost reply is asked for again with the same key, and answered with the same certificate', async () => {
    const plane = await fleet.plane()
    const { home, identity } = await fleet.enrolled(plane, 'db1')
    await pendingKey(home, renewalPurpose(identity))
    const next = path.join(home, 'identity', 'next.json')
    const files = [await readFile(next), await readFile(path.join(home, 'identity', 'identity.json'))] as const
    const first = await renewAs(identity, home, plane)
    // the answer never arrived: the disk is as it was
    await writeFile(next, files[0])
    await writeFile(path.join(home, 'identity', 'identity.json'), files[1])
    const again = await renewAs(identity, home, plane)
    expect(again.identity.chainPem).toBe(first.identity.chainPem)
    expect(again.identity.generation).toBe(2)
    expect((await agentById(fleet.catalog.db, identity.agentId))?.generation).toBe(2)
  })

  test('an older generation with another key suspends the agent and raises an alert: a clone is caught', async () => {
    const plane = await fleet.plane()
    const { home, identity } = await fleet.enrolled(plane, 'db1')
    const clone = await fleet.home('clone')
    await cp(home, clone, { recursive: true })
    await renewAs(identity, home, plane)
    const link = await fleet.link(home)
    await waitFor('the original', () => link.connected)
    await expect(renewAs(identity, clone, plane)).rejects.toMatchObject({
      code: 'agent_suspended',
      hint: expect.stringContaining('clone'),
    })
    await clock.advance(5000)
    await waitFor('the end of the original', () => !link.connected && link.trouble)
    expect(link.trouble).toMatchObject({ code: 'agent_suspended' })
    expect(await callAs(link.identity, plane)).toBe('agent_suspended')
    expect(plane.lines.find((line) => line.alert === 'agent_suspended')).toMatchObject({ level: 'error', agent: 'db1' })
    expect(audited('agent.suspend')).toMatchObject([{ subject: 'db1', outcome: 'done', detail: { presented_generation: 1 } }])
    expect(audited('agent.renew').at(-1)).toMatchObject({ outcome: 'refused', detail: { code: 'agent_suspended' } })
  })

  test('when the clone renews first, the original is the one that shows it', async () => {
    const plane = await fleet.plane()
    const { home, identity } = await fleet.enrolled(plane, 'db1')
    const clone = await fleet.home('clone')
    await cp(home, clone, { recursive: true })
    await renewAs(identity, clone, plane)
    await expect(renewAs(identity, home, plane)).rejects.toMatchObject({ code: 'agent_suspended' })
  })

  test('two renewals at once with one key give one certificate', async () => {
    const plane = await fleet.plane()
    const { home, identity } = await fleet.enrolled(plane, 'db1')
    const { privateKey, publicKey } = await pendingKey(home, renewalPurpose(identity))
    const csrPem = await newSigningRequest(privateKey, publicKey)
    const channel = agentsChannel(identity, parseAddress(plane.agents))
    try {
      const { identity: service } = clientsOn(channel, systemClock)
      const answers = await Promise.all([1, 2, 3].map(() => service.renew({ csrPem, generation: 1 })))
      expect(new Set(answers.map((answer) => answer.certificate?.chainPem)).size).toBe(1)
      await expect(
        service.renew({ csrPem: await newSigningRequest(identity.privateKey, publicKey), generation: 1 }),
      ).rejects.toMatchObject({ code: 'invalid_argument' })
    } finally {
      channel.close()
    }
    expect((await newestCertificate(fleet.catalog.db, identity.agentId))?.generation).toBe(2)
  })

  test('a renewal with the key in use is refused: each brings a new one', async () => {
    const plane = await fleet.plane()
    const { identity } = await fleet.enrolled(plane, 'db1')
    const channel = agentsChannel(identity, parseAddress(plane.agents))
    try {
      const csrPem = await newSigningRequest(identity.privateKey, createPublicKey(identity.privateKey))
      const renewing = clientsOn(channel, systemClock).identity.renew({ csrPem, generation: 1 })
      await expect(renewing).rejects.toMatchObject({ code: 'invalid_argument' })
    } finally {
      channel.close()
    }
  })
})

describe('an outage must not expel the fleet: an expired, unrevoked certificate may renew for 30 days', () => {
  test('an agent whose certificate has ended comes back by itself, and that is audited', async () => {
    const plane = await fleet.plane({ settings: { certificateLifetimeMs: 1000 } })
    const { home, identity } = await fleet.enrolled(plane, 'db1')
    await waitFor('the end of the certificate', () => new Date() > identity.notAfter)
    later(2000)
    const longer = await fleet.plane()
    await moveTo(home, longer)
    const link = await fleet.link(home)
    await waitFor('the link', () => link.connected)
    expect(link.identity.generation).toBe(2)
    expect(audited('agent.renew-late')).toMatchObject([{ subject: 'db1', outcome: 'done', detail: { generation: 2 } }])
  })

  test('also one that does not know that it has ended, since its clock lags', async () => {
    const plane = await fleet.plane({ settings: { certificateLifetimeMs: 1000 } })
    const { home, identity } = await fleet.enrolled(plane, 'db1')
    await waitFor('the end of the certificate', () => new Date() > identity.notAfter)
    later(2000)
    const longer = await fleet.plane()
    await moveTo(home, longer)
    const agentClock = new FakeClock(new Date(Date.now() - 5000))
    const link = await fleet.link(home, { clock: agentClock })
    await waitFor('the link', async () => {
      await agentClock.advance(500)
      return link.connected
    })
    expect(link.identity.generation).toBeGreaterThan(1)
  })

  test('after 30 days it is refused', async () => {
    const plane = await fleet.plane()
    const { home, identity } = await fleet.enrolled(plane, 'db1')
    later(24 * HOUR + 29.9 * 24 * HOUR)
    const renewed = await renewLate(identity, home, systemClock, recordingLog().log)
    expect(renewed.identity.generation).toBe(2)
    later(24 * HOUR + 30.1 * 24 * HOUR)
    const late = renewLate(renewed.identity, home, systemClock, recordingLog().log)
    await expect(late).rejects.toMatchObject({ code: 'certificate_expired', hint: expect.stringContaining('--replace') })
    expect(audited('agent.renew-late').map(({ outcome }) => outcome)).toEqual(['done', 'refused'])
  })

  test('a revoked one is refused', async () => {
    const plane = await fleet.plane()
    const { home, identity } = await fleet.enrolled(plane, 'db1')
    await revokeAgent(fleet, { name: 'db1', reason: 'sold' })
    later(24 * HOUR + 1000)
    await expect(renewLate(identity, home, systemClock, recordingLog().log)).rejects.toMatchObject({
      code: 'certificate_revoked',
    })
  })

  test('the nonce counts once, for one minute, for one certificate, and only with the signature of its key', async () => {
    const plane = await fleet.plane()
    const { home, identity } = await fleet.enrolled(plane, 'db1')
    const { identity: other } = await fleet.enrolled(plane, 'db2')
    const channel = enrolmentChannel(parseAddress(plane.enrolment), identity.authorityPem)
    const { enrolment } = clientsOn(channel, systemClock)
    const { privateKey, publicKey } = await pendingKey(home, renewalPurpose(identity))
    const csrPem = await newSigningRequest(privateKey, publicKey)
    const challenge = async (who: AgentIdentity) => Buffer.from((await enrolment.challenge({ chainPem: who.chainPem })).nonce)
    const signed = (nonce: Buffer, key = identity.privateKey) => sign('sha256', lateRenewalBytes(nonce), key)
    const ask = (nonce: Buffer, signature: Buffer) =>
      enrolment.renewLate({ chainPem: identity.chainPem, nonce, signature, csrPem })
    try {
      const stolen = await challenge(identity)
      await expect(ask(stolen, signed(stolen, other.privateKey))).rejects.toMatchObject({ code: 'unauthenticated' })
      await expect(ask(stolen, signed(stolen)), 'a nonce that was tried is spent').rejects.toMatchObject({
        code: 'unauthenticated',
      })
      const bare = await challenge(identity)
      await expect(ask(bare, sign('sha256', bare, identity.privateKey))).rejects.toMatchObject({ code: 'unauthenticated' })
      const foreign = await challenge(other)
      await expect(ask(foreign, signed(foreign))).rejects.toMatchObject({ code: 'unauthenticated' })
      const old = await challenge(identity)
      later(61_000)
      await expect(ask(old, signed(old))).rejects.toMatchObject({ code: 'unauthenticated' })
      const good = await challenge(identity)
      expect((await ask(good, signed(good))).certificate?.generation).toBe(2)
      await expect(ask(good, signed(good))).rejects.toMatchObject({ code: 'unauthenticated' })
    } finally {
      channel.close()
    }
  })
})

/** The same agent, told another address, as a load balancer would. */
async function moveTo(home: string, plane: TestPlane): Promise<void> {
  const file = path.join(home, 'identity', 'identity.json')
  const identity = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>
  await writeFile(file, JSON.stringify({ ...identity, agents_address: plane.agents, enrolment_address: plane.enrolment }))
}
