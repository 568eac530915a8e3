import { createHash } from 'node:crypto'
import type { Clock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { randomBase32 } from '../../shared/ids.ts'
import { Secret } from '../../shared/secret.ts'
import type { KeyRing } from '../api/authenticate.ts'
import { actorOf, type Caller } from '../api/operations.ts'
import type { ApiKeyView, CreateApiKey, NewApiKeyView } from '../api/schemas/access.ts'
import type { Page, PageRequest } from '../api/schemas/common.ts'
import * as store from '../catalog/api-keys.ts'
import { appendAudit } from '../catalog/audit.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { keyCursor, keyPage } from '../catalog/key-cursor.ts'

/** 160 random bits. */
const KEY_CHARACTERS = 32

interface Deps {
  readonly catalog: Catalog
  readonly clock: Clock
}

const hashOf = (key: Secret) => createHash('sha256').update(key.reveal()).digest()
const newKey = () => new Secret(`hfk_${randomBase32(KEY_CHARACTERS)}`)

export function keyRing({ catalog, clock }: Deps): KeyRing {
  return {
    async find(key) {
      const now = clock.now()
      const row = await store.usableKeyByHash(catalog.db, hashOf(key), now)
      if (!row) return null
      await store.touchApiKey(catalog.db, row.id, now)
      return callerOf(row)
    },
    async current(keyId) {
      const row = await store.usableKeyById(catalog.db, keyId, clock.now())
      return row && callerOf(row)
    },
  }
}

const callerOf = (row: store.ApiKeyRow): Caller => ({ keyId: row.id, keyName: row.name, role: row.role, sources: row.sources })

export async function createApiKey({ catalog, clock }: Deps, by: Caller, request: CreateApiKey): Promise<NewApiKeyView> {
  const key = newKey()
  const now = clock.now()
  const row = await store.insertApiKey(catalog.db, {
    id: `k${randomBase32(11)}`,
    name: request.name,
    secretSha256: hashOf(key),
    role: request.role,
    sources: request.sources,
    createdBy: actorOf(by),
    createdAt: now,
    expiresAt: request.valid_seconds === undefined ? null : new Date(now.getTime() + request.valid_seconds * 1000),
  })
  return { ...viewOf(row), key: key.reveal() }
}

export async function listApiKeys({ catalog }: Deps, page: PageRequest): Promise<Page<ApiKeyView>> {
  const rows = await store.listApiKeys(catalog.db, { limit: page.limit + 1, after: keyCursor(page.cursor) })
  return keyPage(rows.map(viewOf), page.limit, (view) => view.id)
}

/** Takes effect with the next request; open event streams end within a minute. */
export async function revokeApiKey({ catalog, clock }: Deps, id: string): Promise<ApiKeyView> {
  const row = await store.revokeApiKey(catalog.db, id, clock.now())
  if (row) return viewOf(row)
  throw new HoldfastError('not_found', `API key ${id} does not exist`, { hint: 'List the keys with "holdfast api-keys list".' })
}

/**
 * The key of the first administrator, made when there is none that still works, so also after all were revoked or expired:
 * whoever can restart the program on its own host could read its catalog as well. Null when there is one.
 */
export async function ensureAdminKey({ catalog, clock }: Deps): Promise<Secret | null> {
  return await catalog.transaction(async (tx) => {
    await store.lockApiKeys(tx)
    const now = clock.now()
    if (await store.hasUsableAdmin(tx, now)) return null
    const key = newKey()
    const id = `k${randomBase32(11)}`
    await store.insertApiKey(tx, {
      id,
      name: 'admin',
      secretSha256: hashOf(key),
      role: 'admin',
      sources: [],
      createdBy: 'control-plane',
      createdAt: now,
      expiresAt: null,
    })
    const event = { actor: 'control-plane', action: 'api-key.create', subject: 'admin', outcome: 'done', detail: { id } } as const
    await appendAudit(tx, event, now)
    return key
  })
}

const viewOf = (row: store.ApiKeyRow): ApiKeyView => ({
  id: row.id,
  name: row.name,
  role: row.role,
  sources: row.sources,
  created_by: row.createdBy,
  created_at: row.createdAt.toISOString(),
  expires_at: row.expiresAt?.toISOString() ?? null,
  revoked_at: row.revokedAt?.toISOString() ?? null,
  last_used_at: row.lastUsedAt?.toISOString() ?? null,
})
