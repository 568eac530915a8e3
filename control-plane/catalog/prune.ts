import { and, exists, inArray, isNotNull, lt, sql } from 'drizzle-orm'
import { alias } from 'drizzle-orm/pg-core'
import type { Db } from './catalog.ts'
import { jobEvents, jobs, occurrences, sessions } from './schema/schema.ts'

const DAY_MS = 86_400_000
/** Logs, findings and states of jobs that finished longer ago. The jobs themselves stay. */
export const EVENT_DAYS = 90
/** Longer than a yearly schedule sleeps. */
export const OCCURRENCE_DAYS = 400
export const SESSION_DAYS = 30

/** Rows at a time, so that no statement holds its locks for long. */
const BATCH = 10_000

/** Lets go of history that nobody looks at any more, so that the catalog does not grow for ever. What is decided is never undecided. */
export async function pruneHistory(db: Db, now: Date): Promise<void> {
  const before = (days: number) => new Date(now.getTime() - days * DAY_MS)
  await batches(async () => {
    const finished = db
      .select({ id: jobs.id })
      .from(jobs)
      .where(and(isNotNull(jobs.finishedAt), lt(jobs.finishedAt, before(EVENT_DAYS))))
    const some = db.select({ id: jobEvents.id }).from(jobEvents).where(inArray(jobEvents.jobId, finished)).limit(BATCH)
    return await db.delete(jobEvents).where(inArray(jobEvents.id, some)).returning({ id: jobEvents.id })
  })
  // the latest of each source says up to when all is decided
  const later = alias(occurrences, 'later')
  const newer = db
    .select({ one: sql`1` })
    .from(later)
    .where(
      sql`${later.policy} = ${occurrences.policy} and ${later.sourceId} = ${occurrences.sourceId} and ${later.dueAt} > ${occurrences.dueAt}`,
    )
  await db.delete(occurrences).where(and(lt(occurrences.dueAt, before(OCCURRENCE_DAYS)), exists(newer)))
  await db.delete(sessions).where(and(isNotNull(sessions.endedAt), lt(sessions.endedAt, before(SESSION_DAYS))))
}

async function batches(step: () => Promise<unknown[]>): Promise<void> {
  while ((await step()).length === BATCH);
}
