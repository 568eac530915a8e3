import { cp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import path from 'node:path'
import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { enroll } from '../../agent/link/enroll.ts'
import { enrolmentPurpose, pendingKey, readIdentity } from '../../agent/link/identity.ts'
import { agentInUse } from '../../control-plane/catalog/identity-agents.ts'
import { rowsOf } from '../../control-plane/catalog/sql.ts'
import { newAgeIdentity } from '../../shared/age/age.ts'
import { systemClock } from '../../shared/clock.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import { Secret } from '../../shared/secret.ts'
import { recordingLog, TestFleet, type TestPlane } from '../harness/fleet.ts'
import { waitFor } from '../harness/wait.ts'

let clock: FakeClock
let fleet: TestFleet
let plane: TestPlane
beforeEach(async () => {
  clock = new FakeClock(new Date())
  fleet = await TestFleet.start(clock)
  plane = await fleet.plane()
})
afterEach(() => fleet.dispose())

const common = () => ({
  server: plane.agents,
  enrolmentServer: plane.enrolment,
  pin: fleet.fleet.pin,
  agentVersion: '1',
  clock: systemClock,
  log: recordingLog().log,
})

const later = (ms: number) => clock.setWall(new Date(clock.now().getTime() + ms))

/** Entries of the audit trail about an action, newest last. */
const audited = (action: string) => fleet.audit.filter((event) => event.action === action)

describe('tokens: 128 random bits or more, hash kept, 15 minutes, bound to a name', () => {
  test('the catalog holds a hash and not the token, and the agent gets the name the token was bound to', async () => {
    const token = await fleet.token('db1')
    expect(token.reveal()).toMatch(/^hft_[A-Za-z0-9_-]{43}$/)
    const rows = JSON.stringify(await rowsOf(fleet.catalog.db, sql`select * from enrolment_tokens`))
    expect(rows).not.toContain(token.reveal())
    expect(rows).not.toContain(Buffer.from(token.reveal()).toString('hex'))
    const { identity } = await fleet.enrolled(plane, 'db1', { token })
    expect(identity.name).toBe('db1')
    expect(identity.verifyingKey).toBe(fleet.fleet.verifyingKeyText)
    expect(audited('agent.enroll')).toMatchObject([{ subject: 'db1', outcome: 'done' }])
  })

  test('one that nobody made is refused, and audited', async () => {
    const token = new Secret(`hft_${'x'.repeat(43)}`)
    await expect(fleet.enrolled(plane, 'db1', { token })).rejects.toMatchObject({ code: 'token_invalid' })
    expect(audited('agent.enroll')).toMatchObject([{ outcome: 'refused', detail: { code: 'token_invalid' } }])
    expect(audited('agent.enroll')[0]?.actor).toMatch(/^anonymous:.*127\.0\.0\.1/)
  })

  test('after 15 minutes it is refused, with the reason on both sides', async () => {
    const token = await fleet.token('db1')
    later(15 * 60_000 + 1000)
    const enrolling = fleet.enrolled(plane, 'db1', { token })
    await expect(enrolling).rejects.toMatchObject({ code: 'token_expired', hint: expect.stringContaining('invite') })
    expect(audited('agent.enroll')).toMatchObject([{ subject: 'db1', outcome: 'refused', detail: { code: 'token_expired' } }])
    expect(await agentInUse(fleet.catalog.db, 'db1')).toBeNull()
  })

  test('a setting makes it longer, up to a bound', async () => {
    const token = await fleet.token('db1', { validSeconds: 24 * 3600 })
    later(23 * 3_600_000)
    expect((await fleet.enrolled(plane, 'db1', { token })).identity.name).toBe('db1')
    await expect(fleet.token('db2', { validSeconds: 8 * 24 * 3600 })).rejects.toMatchObject({ code: 'invalid_argument' })
    await expect(fleet.token('../etc')).rejects.toMatchObject({ code: 'invalid_name' })
  })
})

describe('the same token with the same public key within its 15 minutes returns the same certificate', () => {
  test('a lost reply does not burn the token', async () => {
    const token = await fleet.token('db1')
    const home = await fleet.home('db1')
    await lostReply(home, token)
    expect(await readIdentity(home)).toBeNull()
    const identity = await enroll({ ...common(), token, home })
    const rows = await rowsOf<{ serial: string; pem: string }>(fleet.catalog.db, sql`select serial, pem from certificates`)
    expect(rows).toHaveLength(1)
    expect(identity.chainPem.startsWith(rows[0]?.pem ?? 'none')).toBe(true)
    expect(audited('agent.enroll')).toMatchObject([{ detail: { repeat: false } }, { detail: { repeat: true } }])
  })

  test('any other second use is refused and audited', async () => {
    const token = await fleet.token('db1')
    await fleet.enrolled(plane, 'db1', { token })
    const thief = await fleet.home('thief')
    await expect(enroll({ ...common(), token, home: thief })).rejects.toMatchObject({ code: 'token_used' })
    expect(await readIdentity(thief)).toBeNull()
    expect(audited('agent.enroll').at(-1)).toMatchObject({ subject: 'db1', outcome: 'refused', detail: { code: 'token_used' } })
  })

  test('the same key after its 15 minutes is refused too', async () => {
    const token = await fleet.token('db1')
    const home = await fleet.home('db1')
    await lostReply(home, token)
    later(15 * 60_000 + 1000)
    await expect(enroll({ ...common(), token, home })).rejects.toMatchObject({ code: 'token_used' })
  })

  test('of two hosts that use one token at once, one is enrolled', async () => {
    const token = await fleet.token('db1')
    const homes = [await fleet.home('one'), await fleet.home('two')]
    const results = await Promise.allSettled(homes.map((home) => enroll({ ...common(), token, home })))
    expect(results.map((result) => result.status).sort()).toEqual(['fulfilled', 'rejected'])
    expect(await rowsOf(fleet.catalog.db, sql`select 1 from certificates`)).toHaveLength(1)
  })
})

describe('an existing name needs replace, which revokes the old identity', () => {
  test('without it neither the invitation nor an older token gets through', async () => {
    const older = await fleet.token('db1')
    await fleet.enrolled(plane, 'db1')
    await expect(fleet.token('db1')).rejects.toMatchObject({ code: 'already_exists' })
    await expect(fleet.enrolled(plane, 'db1', { token: older, folder: 'other' })).rejects.toMatchObject({
      code: 'already_exists',
    })
  })

  test('with it the old agent is refused from then on', async () => {
    const { home } = await fleet.enrolled(plane, 'db1')
    const link = await fleet.link(home)
    await waitFor('the first stream', () => link.connected)
    const second = await fleet.enrolled(plane, 'db1', { replace: true, folder: 'new' })
    await clock.advance(5000)
    await waitFor('the old stream to end', () => !link.connected && link.trouble)
    expect(link.trouble).toMatchObject({ code: 'certificate_revoked' })
    expect((await agentInUse(fleet.catalog.db, 'db1'))?.id).toBe(second.identity.agentId)
    expect(audited('agent.enroll').at(-1)).toMatchObject({ detail: { replaced: link.identity.agentId } })
    const link2 = await fleet.link(second.home)
    await waitFor('the new stream', () => link2.connected)
  })
})

describe('the agent checks the pinned fingerprint before it sends anything', () => {
  test('a wrong pin: nothing is sent, and the token is still good', async () => {
    const token = await fleet.token('db1')
    const pin = `sha256:${'0'.repeat(64)}`
    await expect(fleet.enrolled(plane, 'db1', { token, pin })).rejects.toMatchObject({ code: 'pin_mismatch' })
    expect(fleet.audit).toEqual([])
    expect((await fleet.enrolled(plane, 'db1', { token })).identity.name).toBe('db1')
  })

  test('the fingerprint of another authority is not accepted for a server that merely shows it in its chain', async () => {
    const other = await TestFleet.start()
    try {
      const pin = other.fleet.pin
      await expect(fleet.enrolled(plane, 'db1', { pin })).rejects.toMatchObject({ code: 'pin_mismatch' })
    } finally {
      await other.dispose()
    }
  })

  test('a listener that is no control plane is not told the token', async () => {
    const seen: Buffer[] = []
    const server = createServer((socket) => {
      socket.on('data', (bytes: Buffer) => {
        seen.push(bytes)
        socket.destroy()
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    try {
      const token = await fleet.token('db1')
      const { port } = server.address() as { port: number }
      const enrolling = fleet.enrolled(plane, 'db1', { token, enrolmentServer: `127.0.0.1:${port}` })
      await expect(enrolling).rejects.toMatchObject({ code: 'control_plane_unreachable' })
      expect(seen).toHaveLength(1)
      expect(Buffer.concat(seen).includes(token.reveal())).toBe(false)
    } finally {
      server.close()
    }
  })

  test('a home that is enrolled is not given up by accident', async () => {
    const { home } = await fleet.enrolled(plane, 'db1')
    await expect(fleet.enrolled(plane, 'db2', { home })).rejects.toMatchObject({ code: 'already_exists' })
    expect((await readIdentity(home))?.name).toBe('db1')
  })
})

/** Enrols, and then the agent forgets the answer, as when it was lost on the way: the key it asked with is still on its disk. */
async function lostReply(home: string, token: Secret): Promise<void> {
  await pendingKey(home, enrolmentPurpose(token), newAgeIdentity)
  const pending = path.join(home, 'identity', 'next.json')
  await cp(pending, `${home}-next.json`)
  await enroll({ ...common(), token, home })
  await rm(path.join(home, 'identity', 'identity.json'))
  await cp(`${home}-next.json`, pending)
}
