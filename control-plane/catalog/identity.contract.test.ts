import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import type { Catalog } from './catalog.ts'
import { agentById, agentInUse, insertAgent, listAgents, setAgentState } from './identity-agents.ts'
import { insertCertificate, newestCertificate, presentedCertificate, revokeCertificates } from './identity-certificates.ts'
import { beatInstance, forgetDeadInstances, liveInstances, removeInstance } from './identity-instances.ts'
import {
  beatSessions,
  connectedAgents,
  endSession,
  endSessionsOfDeadInstances,
  openSession,
  openSessionOfAgent,
  openSessionsOf,
  requireCurrentEpoch,
  sessionsToEnd,
} from './identity-sessions.ts'
import { insertNonce, insertToken, lockToken, markTokenUsed, tokenByHash, useNonce } from './identity-tokens.ts'

const now = new Date('2026-03-01T12:00:00Z')
const at = (ms: number) => new Date(now.getTime() + ms)
const bytes = (n: number) => Buffer.alloc(32, n)

describe.each(await catalogsUnderTest())('stores of identities and streams, $kind', ({ open }) => {
  let under: TestCatalog
  let catalog: Catalog
  let count = 0
  beforeAll(async () => {
    under = await open()
    catalog = under.catalog
  })
  afterAll(() => under.dispose())

  const newAgent = async (name = `host${++count}`) => {
    const id = `a${++count}`
    await insertAgent(catalog.db, { id, name, ageRecipient: 'age1', version: '1', now })
    await certificate(id, 1)
    return { id, name }
  }
  const certificate = async (agentId: string, generation: number) => {
    const serial = `s-${agentId}-${generation}`
    const row = {
      serial,
      agentId,
      generation,
      publicKeySha256: bytes(generation),
      pem: 'pem',
      notBefore: now,
      notAfter: at(1000),
    }
    await insertCertificate(catalog.db, row)
    return serial
  }
  const connect = (agentId: string, instanceId: string, generation = 1) =>
    catalog.transaction((tx) =>
      openSession(tx, { agentId, instanceId, agentInstance: 'x', certificateSerial: `s-${agentId}-${generation}`, now }),
    )

  test('a name belongs to one agent in use, and is free again when that one is revoked or replaced', async () => {
    const { id, name } = await newAgent()
    await expect(newAgent(name)).rejects.toMatchObject({ code: 'already_exists' })
    await setAgentState(catalog.db, id, 'suspended', 'why')
    await expect(newAgent(name)).rejects.toMatchObject({ code: 'already_exists' })
    await setAgentState(catalog.db, id, 'revoked', 'why')
    const next = await newAgent(name)
    expect((await agentInUse(catalog.db, name))?.id).toBe(next.id)
    const all = await listAgents(catalog.db, { all: true, limit: 100 })
    const inUse = await listAgents(catalog.db, { all: false, limit: 100 })
    expect(all.filter((agent) => agent.name === name)).toHaveLength(2)
    expect(inUse.filter((agent) => agent.name === name)).toHaveLength(1)
    const first = all[0]
    if (!first) throw new Error('no agents')
    expect(await listAgents(catalog.db, { all: true, limit: 100, after: first })).toEqual(all.slice(1))
  })

  test('certificates are found with the state of their agent, and revoked below a generation', async () => {
    const { id, name } = await newAgent()
    await certificate(id, 2)
    await certificate(id, 3)
    await revokeCertificates(catalog.db, id, { reason: 'superseded', now, below: 3 })
    const presented = await Promise.all([1, 2, 3].map((n) => presentedCertificate(catalog.db, `s-${id}-${n}`)))
    expect(presented.map((row) => row?.revokedReason)).toEqual(['superseded', 'superseded', null])
    await revokeCertificates(catalog.db, id, { reason: 'revoked', now: at(5) })
    expect(await presentedCertificate(catalog.db, `s-${id}-1`)).toMatchObject({ revokedReason: 'superseded', revokedAt: now })
    expect(await presentedCertificate(catalog.db, `s-${id}-3`)).toMatchObject({ agentName: name, revokedReason: 'revoked' })
    expect((await newestCertificate(catalog.db, id))?.generation).toBe(3)
    expect(await presentedCertificate(catalog.db, 'nobody')).toBeNull()
  })

  test('a token is found by its hash and remembers its first use', async () => {
    const { id } = await newAgent()
    const row = {
      id: 't1',
      tokenSha256: bytes(9),
      name: 'x',
      replace: false,
      createdBy: 'test',
      createdAt: now,
      expiresAt: at(900_000),
    }
    await insertToken(catalog.db, row)
    expect(await tokenByHash(catalog.db, bytes(8))).toBeNull()
    const used = { at: now, publicKeySha256: bytes(1), agentId: id, certificateSerial: `s-${id}-1` }
    await catalog.transaction((tx) => markTokenUsed(tx, 't1', used))
    const found = await catalog.transaction((tx) => lockToken(tx, 't1'))
    expect(found).toMatchObject({ ...row, usedAt: now, publicKeySha256: bytes(1), agentId: id })
  })

  test('a nonce counts once, in its minute, for its certificate', async () => {
    const nonce = { nonceSha256: bytes(1), certificateSerial: 'one', expiresAt: at(60_000), now }
    await insertNonce(catalog.db, nonce)
    const use = (sha256: Buffer, certificateSerial: string, time: Date) =>
      useNonce(catalog.db, { sha256, certificateSerial, now: time })
    expect(await use(bytes(1), 'two', now)).toBe(false)
    const tries = await Promise.all([1, 2, 3].map(() => use(bytes(1), 'one', at(60_000))))
    expect(tries.filter(Boolean)).toHaveLength(1)
    await insertNonce(catalog.db, { ...nonce, nonceSha256: bytes(2) })
    expect(await use(bytes(2), 'one', at(60_001))).toBe(false)
    await insertNonce(catalog.db, { ...nonce, nonceSha256: bytes(3), now: at(120_000), expiresAt: at(180_000) })
    expect(await use(bytes(2), 'one', now), 'swept with the ones that have expired').toBe(false)
  })

  test('epochs count up whoever connects where, and only the newest may write', async () => {
    const { id } = await newAgent()
    const epochs = await Promise.all(['one', 'two', 'one', 'two'].map((instance) => connect(id, instance)))
    expect([...epochs].sort()).toEqual([1, 2, 3, 4])
    const open = await openSessionOfAgent(catalog.db, id)
    expect(open?.epoch).toBe(4)
    await catalog.transaction((tx) => requireCurrentEpoch(tx, { agentId: id, epoch: 4 }))
    for (const epoch of [3, 5]) {
      const write = catalog.transaction((tx) => requireCurrentEpoch(tx, { agentId: id, epoch }))
      await expect(write).rejects.toMatchObject({ code: 'session_superseded' })
    }
    await setAgentState(catalog.db, id, 'suspended', 'why')
    expect(await connect(id, 'one')).toBeNull()
    const write = catalog.transaction((tx) => requireCurrentEpoch(tx, { agentId: id, epoch: 4 }))
    await expect(write).rejects.toMatchObject({ code: 'session_superseded' })
  })

  test('the streams of an instance that must end are named with the cause', async () => {
    const [fine, revoked, suspended, gone] = [await newAgent(), await newAgent(), await newAgent(), await newAgent()]
    for (const agent of [fine, revoked, suspended, gone]) await connect(agent.id, 'causes')
    await revokeCertificates(catalog.db, revoked.id, { reason: 'why', now })
    await setAgentState(catalog.db, suspended.id, 'suspended', 'why')
    await setAgentState(catalog.db, gone.id, 'revoked', 'why')
    const found = await sessionsToEnd(catalog.db, 'causes')
    expect(Object.fromEntries(found.map(({ agentId, cause }) => [agentId, cause]))).toEqual({
      [revoked.id]: 'revoked',
      [suspended.id]: 'suspended',
      [gone.id]: 'revoked',
    })
    expect(await sessionsToEnd(catalog.db, 'other')).toEqual([])
    await endSession(catalog.db, { agentId: gone.id, epoch: 1 }, 'ended', now)
    expect((await openSessionsOf(catalog.db, 'causes')).map(({ agentId }) => agentId).sort()).toEqual(
      [fine.id, revoked.id, suspended.id].sort(),
    )
  })

  test('a beat counts for the streams of the instance that are open', async () => {
    const [one, two] = [await newAgent(), await newAgent()]
    await connect(one.id, 'beats')
    await connect(two.id, 'beats')
    await connect(two.id, 'elsewhere')
    const heard = [one, two].map(({ id }) => ({ agentId: id, epoch: 1 }))
    await beatSessions(catalog.db, 'beats', heard, at(7000))
    expect((await openSessionOfAgent(catalog.db, one.id))?.heartbeatAt).toEqual(at(7000))
    expect((await openSessionOfAgent(catalog.db, two.id))?.heartbeatAt).toEqual(now)
    expect((await agentById(catalog.db, one.id))?.lastSeenAt).toEqual(at(7000))
    expect((await agentById(catalog.db, two.id))?.lastSeenAt).toEqual(now)
    await beatSessions(catalog.db, 'beats', [], at(9000))
  })

  test('the streams of a control plane that died are ended by another', async () => {
    const [kept, left] = [await newAgent(), await newAgent()]
    await catalog.db.execute(sql`update sessions set ended_at = now() where ended_at is null`)
    await beatInstance(catalog.db, 'alive')
    await beatInstance(catalog.db, 'dead')
    await connect(kept.id, 'alive')
    await connect(left.id, 'dead')
    expect(await endSessionsOfDeadInstances(catalog.db, { deadAfterMs: 30_000, now })).toBe(0)
    await catalog.db.execute(sql`update instances set heartbeat_at = now() - interval '31 seconds' where id = 'dead'`)
    expect(await connectedAgents(catalog.db, 30_000)).toEqual(new Set([kept.id]))
    expect(await liveInstances(catalog.db, 30_000)).toEqual(['alive'])
    expect(await endSessionsOfDeadInstances(catalog.db, { deadAfterMs: 30_000, now })).toBe(1)
    expect(await openSessionOfAgent(catalog.db, left.id)).toBeNull()
    await forgetDeadInstances(catalog.db, 'alive', 30_000)
    await removeInstance(catalog.db, 'alive')
    expect(await endSessionsOfDeadInstances(catalog.db, { deadAfterMs: 30_000, now })).toBe(1)
  })
})
