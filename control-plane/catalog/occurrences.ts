import { and, desc, eq, lte } from 'drizzle-orm'
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

/** The latest that was decided, whatever was decided; null before the first. */
export async function lastOccurrence(db: Db, policy: string, sourceId: string, notAfter: Date): Promise<OccurrenceRow | null> {
  const [row] = await db
    .select()
    .from(occurrences)
    .where(and(eq(occurrences.policy, policy), eq(occurrences.sourceId, sourceId), lte(occurrences.dueAt, notAfter)))
    .orderBy(desc(occurrences.dueAt))
    .limit(1)
  return row ?? null
}
