import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import { eq, gt, sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { type AuditEvent, isOurHead } from '../domain/audit-chain.ts'
import { appendAudit, auditTrail, listAuditEntries, signedHead, verifyAudit } from './audit.ts'
import { auditEntries, auditHead } from './schema/operators.ts'

const event = (subject: string): AuditEvent => ({
  actor: 'key:admin',
  action: 'backup.delete',
  subject,
  outcome: 'done',
  detail: { z: 1, a: [1.5, null, { deep: 'ü' }], left: undefined },
})

describe.each(await catalogsUnderTest())('audit trail, $kind', ({ open }) => {
  let under: TestCatalog
  let record: (event: AuditEvent) => Promise<void>
  const clock = new FakeClock('2026-11-21T02:00:00.123Z')
  beforeAll(async () => {
    under = await open()
    record = auditTrail(under.catalog, clock)
  })
  afterAll(() => under.dispose())
  beforeEach(async () => {
    await under.catalog.db.execute(sql`truncate audit_entries, audit_head`)
    for (const subject of ['one', 'two', 'three', 'four']) await record(event(subject))
  })

  test('entries are chained, and read back the chain holds', async () => {
    expect(await verifyAudit(under.catalog.db)).toMatchObject({ valid: true, entries: 4, errors: [] })
    const rows = await listAuditEntries(under.catalog.db, {}, { limit: 3 })
    expect(rows.map((row) => [row.sequence, row.subject])).toEqual([
      [4, 'four'],
      [3, 'three'],
      [2, 'two'],
    ])
    expect(rows[0]?.previousHash.equals(rows[1]?.hash ?? Buffer.alloc(0))).toBe(true)
    expect(await listAuditEntries(under.catalog.db, { subject: 'one' }, { limit: 3, before: 2 })).toHaveLength(1)
  })

  test('writers at the same time wait for each other: no number twice, none left out', async () => {
    await Promise.all(Array.from({ length: 20 }, (_, i) => record(event(`p${i}`))))
    expect(await verifyAudit(under.catalog.db)).toMatchObject({ valid: true, entries: 24 })
  })

  test('a refusal is recorded although the transaction that failed is rolled back', async () => {
    const failing = under.catalog.transaction(async (tx) => {
      await appendAudit(tx, event('rolled back'), clock.now())
      throw new Error('refused')
    })
    await expect(failing).rejects.toThrow('refused')
    await record({ ...event('refused'), outcome: 'refused' })
    const [last] = await listAuditEntries(under.catalog.db, {}, { limit: 1 })
    expect(last).toMatchObject({ sequence: 5, subject: 'refused', outcome: 'refused' })
    expect((await verifyAudit(under.catalog.db)).valid).toBe(true)
  })

  test('an entry that was changed is found', async () => {
    await under.catalog.db.update(auditEntries).set({ actor: 'key:other' }).where(eq(auditEntries.sequence, 2))
    expect((await verifyAudit(under.catalog.db)).errors).toEqual([
      { sequence: 2, message: 'it was changed after it was written' },
    ])
  })

  test('an entry that was taken out of the middle is found', async () => {
    await under.catalog.db.delete(auditEntries).where(eq(auditEntries.sequence, 2))
    expect((await verifyAudit(under.catalog.db)).errors).toEqual([{ sequence: 3, message: 'entries 2 to 2 are missing' }])
  })

  test('a trail whose end was cut off is found by its head', async () => {
    await under.catalog.db.delete(auditEntries).where(gt(auditEntries.sequence, 2))
    expect((await verifyAudit(under.catalog.db)).errors).toEqual([{ sequence: 4, message: 'the trail ends before its head' }])
  })

  test('cut off or written anew together with its head, it is found by the head that was signed', async () => {
    const { db } = under.catalog
    const { privateKey: signer } = generateKeyPairSync('ed25519')
    const head = await signedHead(db, { fleetId: 'f1', signer, at: clock.now() })
    const verifyingKey = createPublicKey(signer)
    expect(isOurHead(head, { fleetId: 'f1', verifyingKey })).toBe(true)
    expect(isOurHead({ ...head, sequence: 3 }, { fleetId: 'f1', verifyingKey })).toBe(false)
    expect(isOurHead(head, { fleetId: 'f2', verifyingKey })).toBe(false)
    await record(event('later'))
    expect((await verifyAudit(db, [head])).valid).toBe(true)
    const [second] = await db.select().from(auditEntries).where(eq(auditEntries.sequence, 2))
    await db.delete(auditEntries).where(gt(auditEntries.sequence, 2))
    await db.update(auditHead).set({ sequence: 2, hash: second?.hash ?? Buffer.alloc(32) })
    expect((await verifyAudit(db)).valid).toBe(true)
    expect((await verifyAudit(db, [head])).errors).toMatchObject([
      { sequence: 4, message: expect.stringContaining("beyond the trail's end") },
    ])
    for (const subject of ['false three', 'false four', 'false five']) await record(event(subject))
    expect((await verifyAudit(db)).valid).toBe(true)
    expect((await verifyAudit(db, [head])).errors).toEqual([
      { sequence: 4, message: 'the entry is not the one whose hash was signed' },
    ])
  })

  test('what a hostile peer names is kept, bounded and without what SQL refuses', async () => {
    await record({
      ...event('x'.repeat(5000)),
      actor: 'agent:\u0000',
      detail: { name: 'a\u0000b\ud800', long: 'y'.repeat(50_000) },
    })
    expect((await verifyAudit(under.catalog.db)).valid).toBe(true)
    const [last] = await listAuditEntries(under.catalog.db, {}, { limit: 1 })
    expect(last?.subject.length).toBeLessThanOrEqual(300)
    expect(JSON.stringify(last?.detail).length).toBeLessThan(20_000)
  })
})
