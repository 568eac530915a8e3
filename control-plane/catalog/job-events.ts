import { and, asc, eq, gt } from 'drizzle-orm'
import { HoldfastError } from '../../shared/errors.ts'
import type { Db } from './catalog.ts'
import { CHANNELS } from './channels.ts'
import { jobEvents } from './schema/schema.ts'
import { notifyIn } from './sql.ts'
import { storableJson } from './text.ts'

export type JobEventRow = typeof jobEvents.$inferSelect

export interface NewJobEvent {
  readonly jobId: string
  readonly attempt: number
  readonly type: JobEventRow['type']
  readonly at: Date
  readonly data: Record<string, unknown>
  /** The agent's own number; a repeated one is dropped. */
  readonly number?: number
}

export async function addEvent(tx: Db, event: NewJobEvent): Promise<void> {
  const [row] = await tx
    .insert(jobEvents)
    .values({ ...event, number: event.number ?? null, data: storableJson(event.data) })
    .onConflictDoNothing()
    .returning({ id: jobEvents.id })
  if (row) await notifyIn(tx, CHANNELS.jobEvents, event.jobId)
}

/**
 * After event `afterId`, in order. Ids are given before transactions commit, so that one with a lower id may appear after a higher
 * one; within a job they cannot, since each is written under the lock of the job's row or by its one agent in order.
 */
export async function listEvents(db: Db, jobId: string, afterId = 0, limit = 500): Promise<JobEventRow[]> {
  return await db
    .select()
    .from(jobEvents)
    .where(and(eq(jobEvents.jobId, jobId), gt(jobEvents.id, afterId)))
    .orderBy(asc(jobEvents.id))
    .limit(Math.min(1000, limit))
}

/** Lines of the job's log, oldest first; the cursor is the last line's id. */
export async function listLogs(
  db: Db,
  jobId: string,
  page: { limit: number; cursor?: string | undefined },
): Promise<{ items: JobEventRow[]; next_cursor: string | null }> {
  const after = page.cursor === undefined ? 0 : Number(page.cursor)
  if (!Number.isSafeInteger(after) || after < 0) {
    throw new HoldfastError('invalid_argument', 'the cursor is not one that this list gave', {
      hint: 'Pass next_cursor of the page before unchanged, or leave the cursor out to begin again.',
    })
  }
  const rows = await db
    .select()
    .from(jobEvents)
    .where(and(eq(jobEvents.jobId, jobId), eq(jobEvents.type, 'log'), gt(jobEvents.id, after)))
    .orderBy(asc(jobEvents.id))
    .limit(page.limit + 1)
  const items = rows.slice(0, page.limit)
  return { items, next_cursor: rows.length > page.limit ? String(items.at(-1)?.id) : null }
}
