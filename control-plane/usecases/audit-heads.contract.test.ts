import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { eq, gt, sql } from 'drizzle-orm'
import pino from 'pino'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { openTarget } from '../../shared/storage/registry.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { auditTrail, verifyAudit } from '../catalog/audit.ts'
import { auditEntries, auditHead } from '../catalog/schema/operators.ts'
import { publishAuditHead, publishedAuditHeads } from './audit-heads.ts'

describe.each(await catalogsUnderTest())('signed heads of the audit trail, $kind', ({ open }) => {
  let under: TestCatalog
  let folder: string
  let store: StorageTarget
  const clock = new FakeClock('2026-11-21T12:00:00Z')
  const { privateKey: signer } = generateKeyPairSync('ed25519')
  const checkAudit = async () => await verifyAudit(under.catalog.db, await publishedAuditHeads(deps()))
  const deps = () =>
    ({
      ...{ catalog: under.catalog, clock, log: pino({ level: 'silent' }), fleet: { id: 'f1', signer } },
      settings: { defaultTarget: 'store' },
      target: async () => store,
    }) as unknown as Parameters<typeof publishAuditHead>[0]
  const record = async (...subjects: string[]) => {
    const write = auditTrail(under.catalog, clock)
    for (const subject of subjects) await write({ actor: 'key:a', action: 'x', subject, outcome: 'done', detail: {} })
  }

  beforeAll(async () => {
    under = await open()
  })
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'hf-heads-'))
    store = await openTarget({ kind: 'local', path: folder }, { name: 'store' })
    await under.catalog.db.execute(sql`truncate audit_entries, audit_head`)
    await record('one', 'two', 'three')
    await publishAuditHead(deps())
    return async () => {
      await store.close()
      await rm(folder, { recursive: true, force: true })
    }
  })
  afterAll(() => under.dispose())

  test('a trail that only grew is valid, whatever else lies in the bucket', async () => {
    await record('four')
    await clock.advance(3_600_000)
    await publishAuditHead(deps())
    const forged = {
      format: 1,
      fleet_id: 'f1',
      at: '2026-11-21T13:00:00.000Z',
      sequence: 99,
      hash: '0'.repeat(64),
      signature: 'AAAA',
    }
    await store.put('_audit/000000000000099-0000000000000000.json', Buffer.from(JSON.stringify(forged)))
    await store.put('_audit/000000000000098-0000000000000000.json', Buffer.from('not JSON'))
    expect(await checkAudit()).toMatchObject({ valid: true, entries: 4 })
  })

  test('a head is locked for thirty days where the service can, and the same one is one object', async () => {
    const put = vi.spyOn(store, 'put')
    await record('four')
    await publishAuditHead(deps())
    await publishAuditHead(deps())
    expect(put).toHaveBeenCalledOnce()
    const lockUntil = new Date(clock.now().getTime() + 30 * 86_400_000)
    expect(put.mock.calls[0]?.[2]).toEqual({ lockUntil })
  })

  test('a trail that was cut off together with its head is found by the object in the bucket', async () => {
    const [second] = await under.catalog.db.select().from(auditEntries).where(eq(auditEntries.sequence, 2))
    await under.catalog.db.delete(auditEntries).where(gt(auditEntries.sequence, 2))
    await under.catalog.db.update(auditHead).set({ sequence: 2, hash: second?.hash ?? Buffer.alloc(32) })
    expect(await checkAudit()).toMatchObject({ valid: false, errors: [{ sequence: 3 }] })
    await record('another three', 'four')
    expect(await checkAudit()).toMatchObject({
      valid: false,
      errors: [{ sequence: 3, message: expect.stringContaining('signed') }],
    })
  })
})
