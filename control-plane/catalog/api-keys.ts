import { and, asc, eq, gt, isNull, lt, or, sql } from 'drizzle-orm'
import type { Db } from './catalog.ts'
import { apiKeys } from './schema/operators.ts'

/** Keys of operators. Only SHA-256 of a key is kept, and found by its index: the time taken tells nothing about a key. */

export type ApiKeyRow = typeof apiKeys.$inferSelect

export async function insertApiKey(db: Db, row: Omit<ApiKeyRow, 'revokedAt' | 'lastUsedAt'>): Promise<ApiKeyRow> {
  const [made] = await db.insert(apiKeys).values(row).returning()
  return made as ApiKeyRow
}

const usable = (now: Date) => and(isNull(apiKeys.revokedAt), or(isNull(apiKeys.expiresAt), gt(apiKeys.expiresAt, now)))

/** Null when there is none, or it expired or was revoked. */
export async function usableKeyByHash(db: Db, secretSha256: Buffer, now: Date): Promise<ApiKeyRow | null> {
  const rows = await db
    .select()
    .from(apiKeys)
    .where(and(eq(apiKeys.secretSha256, secretSha256), usable(now)))
  return rows[0] ?? null
}

export async function usableKeyById(db: Db, id: string, now: Date): Promise<ApiKeyRow | null> {
  const rows = await db
    .select()
    .from(apiKeys)
    .where(and(eq(apiKeys.id, id), usable(now)))
  return rows[0] ?? null
}

/** Written at most once a minute, so that reading does not become writing. */
export async function touchApiKey(db: Db, id: string, now: Date): Promise<void> {
  const minuteAgo = new Date(now.getTime() - 60_000)
  await db
    .update(apiKeys)
    .set({ lastUsedAt: now })
    .where(and(eq(apiKeys.id, id), or(isNull(apiKeys.lastUsedAt), lt(apiKeys.lastUsedAt, minuteAgo))))
}

/** By id; `after` is the id of the last one of the page before. */
export async function listApiKeys(db: Db, page: { limit: number; after?: string | undefined }): Promise<ApiKeyRow[]> {
  return await db
    .select()
    .from(apiKeys)
    .where(page.after === undefined ? undefined : gt(apiKeys.id, page.after))
    .orderBy(asc(apiKeys.id))
    .limit(page.limit)
}

/** The row as it is afterwards; null when there is none. Revoked twice keeps the first time. */
export async function revokeApiKey(db: Db, id: string, now: Date): Promise<ApiKeyRow | null> {
  const rows = await db
    .update(apiKeys)
    .set({ revokedAt: sql`coalesce(${apiKeys.revokedAt}, ${now.toISOString()}::timestamptz)` })
    .where(eq(apiKeys.id, id))
    .returning()
  return rows[0] ?? null
}

/** Of several control planes that start at once on one catalog, each sees what the one before did. Held until `tx` ends. */
export async function lockApiKeys(tx: Db): Promise<void> {
  await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended('holdfast api keys', 0))`)
}

export async function hasUsableAdmin(db: Db, now: Date): Promise<boolean> {
  const rows = await db
    .select({ id: apiKeys.id })
    .from(apiKeys)
    .where(and(eq(apiKeys.role, 'admin'), usable(now)))
    .limit(1)
  return rows.length > 0
}
