import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { Secret } from '../../shared/secret.ts'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import type { Caller } from '../api/operations.ts'
import { listAuditEntries } from '../catalog/audit.ts'
import { rowsOf } from '../catalog/sql.ts'
import { createApiKey, ensureAdminKey, keyRing, listApiKeys, revokeApiKey } from './api-keys.ts'

const admin: Caller = { keyId: 'k', keyName: 'root', role: 'admin', sources: [] }

describe.each(await catalogsUnderTest())('API keys, $kind', ({ open }) => {
  let under: TestCatalog
  const clock = new FakeClock('2026-11-21T02:00:00Z')
  const deps = () => ({ catalog: under.catalog, clock })
  beforeAll(async () => {
    under = await open()
  })
  afterAll(() => under.dispose())
  beforeEach(() => under.catalog.db.execute(sql`truncate api_keys`))

  test('a key is found by what was shown once, with its role and sources', async () => {
    const made = await createApiKey(deps(), admin, { name: 'ci', role: 'operator', sources: ['db1/*'] })
    expect(made.key).toMatch(/^hfk_[0-9a-hjkmnp-tv-z]{32}$/)
    const caller = await keyRing(deps()).find(new Secret(made.key))
    expect(caller).toEqual({ keyId: made.id, keyName: 'ci', role: 'operator', sources: ['db1/*'] })
    expect(await keyRing(deps()).find(new Secret(`${made.key}x`))).toBeNull()
  })

  test('the catalog does not hold the key', async () => {
    const made = await createApiKey(deps(), admin, { name: 'ci', role: 'viewer', sources: [] })
    const rows = await rowsOf(under.catalog.db, sql`select k::text as row from api_keys k`)
    expect(JSON.stringify(rows)).not.toContain(made.key.slice(4))
  })

  test('an expired and a revoked key are refused from then on', async () => {
    const brief = await createApiKey(deps(), admin, { name: 'brief', role: 'viewer', sources: [], valid_seconds: 60 })
    const taken = await createApiKey(deps(), admin, { name: 'taken', role: 'viewer', sources: [] })
    const ring = keyRing(deps())
    expect(await ring.current(brief.id)).not.toBeNull()
    await clock.advance(60_000)
    expect(await ring.find(new Secret(brief.key))).toBeNull()
    expect(await ring.current(brief.id)).toBeNull()
    const first = await revokeApiKey(deps(), taken.id)
    await clock.advance(1000)
    expect((await revokeApiKey(deps(), taken.id)).revoked_at).toBe(first.revoked_at)
    expect(await ring.find(new Secret(taken.key))).toBeNull()
    await expect(revokeApiKey(deps(), 'knothing')).rejects.toMatchObject({ code: 'not_found' })
  })

  test('the list goes on where it stopped, and shows when a key was last used', async () => {
    const keys = []
    for (const name of ['a', 'b', 'c']) keys.push(await createApiKey(deps(), admin, { name, role: 'viewer', sources: [] }))
    await keyRing(deps()).find(new Secret(keys[0]?.key ?? ''))
    const first = await listApiKeys(deps(), { limit: 2 })
    const second = await listApiKeys(deps(), { limit: 2, cursor: first.next_cursor ?? '' })
    expect(second.next_cursor).toBeNull()
    const all = [...first.items, ...second.items]
    expect(all.map((one) => one.id).sort()).toEqual(keys.map((one) => one.id).sort())
    expect(all.filter((one) => one.last_used_at !== null).map((one) => one.name)).toEqual(['a'])
    await expect(listApiKeys(deps(), { limit: 2, cursor: 'AAAA' })).rejects.toMatchObject({ code: 'invalid_argument' })
  })

  test('the first start makes one admin key, also when several start at once, and no later one another', async () => {
    const made = await Promise.all([ensureAdminKey(deps()), ensureAdminKey(deps()), ensureAdminKey(deps())])
    const keys = made.filter((one) => one !== null)
    expect(keys).toHaveLength(1)
    expect(await keyRing(deps()).find(keys[0] as Secret)).toMatchObject({ role: 'admin', sources: [] })
    expect(await ensureAdminKey(deps())).toBeNull()
    expect((await listAuditEntries(under.catalog.db, { action: 'api-key.create' }, { limit: 5 })).length).toBe(1)
  })
})
