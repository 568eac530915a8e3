import { and, desc, eq, max } from 'drizzle-orm'
import type { Db } from './catalog.ts'
import { occurrences } from './schema/schema.ts'

export type OccurrenceRow = typeof occurrences.$inferSelect
export type OccurrenceOutcome = 'fired' | 'skipped-overlap' | 'skipped-window' | 'missed'

export interface Occurrence {
  readonly policy: string
  readonly sourceId: string
  readonly dueAt: Date
  readonly type: string
}

/**
 * True for the one caller that may act on it: the key (policy, source, due time) is what keeps two control planes, or one that
 * woke from a pause, from firing an occurrence twice. Call it in the transaction that queues the job.
 */
export async function insertOccurrence(
  tx: Db,
  occurrence: Occurrence & { readonly outcome: OccurrenceOutcome; readonly jobId?: string | null },
  now: Date,
): Promise<boolean> {
  const rows = await tx
    .insert(occurrences)
    .values({ ...occurrence, jobId: occurrence.jobId ?? null, createdAt: now })
    .onConflictDoNothing()
    .returning({ policy: occurrences.policy })
  return rows.length > 0
}

export async function setOccurrence(tx: Db, key: Occurrence, outcome: OccurrenceOutcome, jobId: string | null): Promise<void> {
  await tx
    .update(occurrences)
    .set({ outcome, jobId })
    .where(and(eq(occurrences.policy, key.policy), eq(occurrences.sourceId, key.sourceId), eq(occurrences.dueAt, key.dueAt)))
}

/** Up to when a source is decided under a policy: the latest due time of any outcome. Keys are `policy source`. */
export async function lastDecided(db: Db): Promise<Map<string, Date>> {
  const rows = await db
    .select({ policy: occurrences.policy, sourceId: occurrences.sourceId, dueAt: max(occurrences.dueAt) })
    .from(occurrences)
    .groupBy(occurrences.policy, occurrences.sourceId)
  return new Map(rows.flatMap((row) => (row.dueAt ? [[decidedKey(row.policy, row.sourceId), row.dueAt] as const] : [])))
}

export const decidedKey = (policy: string, sourceId: string): string => `${policy} ${sourceId}`

export async function listOccurrences(db: Db, policy: string, sourceId: string, limit = 100): Promise<OccurrenceRow[]> {
  return await db
    .select()
    .from(occurrences)
    .where(and(eq(occurrences.policy, policy), eq(occurrences.sourceId, sourceId)))
    .orderBy(desc(occurrences.dueAt))
    .limit(limit)
}
