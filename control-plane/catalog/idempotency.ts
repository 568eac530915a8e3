import { and, eq, lt } from 'drizzle-orm'
import type { Clock } from '../../shared/clock.ts'
import type { Catalog } from './catalog.ts'
import { idempotencyKeys } from './schema/operators.ts'

export interface IdempotencyStore {
  /** Claims the key for this request, or says what became of the one before. Atomic. */
  begin(request: { keyId: string; key: string; requestSha256: Buffer }): Promise<IdempotencyState>
  finish(request: { keyId: string; key: string }, answer: { status: number; response: unknown }): Promise<void>
  /** As if it had never been asked. */
  forget(request: { keyId: string; key: string }): Promise<void>
}
export type IdempotencyState =
  | { readonly state: 'new' }
  | { readonly state: 'at_work' }
  | { readonly state: 'other_request' }
  | { readonly state: 'answered'; readonly status: number; readonly response: unknown }

/** How long a key stands for its request, also one whose control plane died at work: nothing says what became of that. */
export const IDEMPOTENCY_MS = 24 * 3600 * 1000

export function idempotencyStore(catalog: Catalog, clock: Clock): IdempotencyStore {
  const { db } = catalog
  const at = (request: { keyId: string; key: string }) =>
    and(eq(idempotencyKeys.apiKeyId, request.keyId), eq(idempotencyKeys.key, request.key))
  return {
    async begin(request): Promise<IdempotencyState> {
      const now = clock.now()
      await db.delete(idempotencyKeys).where(lt(idempotencyKeys.createdAt, new Date(now.getTime() - IDEMPOTENCY_MS)))
      const { keyId: apiKeyId, key, requestSha256 } = request
      const made = await db
        .insert(idempotencyKeys)
        .values({ apiKeyId, key, requestSha256, createdAt: now })
        .onConflictDoNothing()
        .returning({ key: idempotencyKeys.key })
      if (made.length > 0) return { state: 'new' }
      const [row] = await db.select().from(idempotencyKeys).where(at(request))
      // forgotten between the two statements: whoever had it ended in a way that may be tried again, as `at_work` says too
      if (!row) return { state: 'at_work' }
      if (!row.requestSha256.equals(requestSha256)) return { state: 'other_request' }
      return row.status === null ? { state: 'at_work' } : { state: 'answered', status: row.status, response: row.response }
    },
    async finish(request, { status, response }) {
      await db.update(idempotencyKeys).set({ status, response }).where(at(request))
    },
    async forget(request) {
      await db.delete(idempotencyKeys).where(at(request))
    },
  }
}
