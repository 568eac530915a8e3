import { and, count, desc, eq, inArray, isNotNull, isNull, sql } from 'drizzle-orm'
import type { Db } from './catalog.ts'
import { agents, backups, jobs, sources, verifications } from './schema/schema.ts'

/** How the fleet stands, in a handful of statements: for the status page and for metrics, which survive a restart by it. */

export interface SourceStanding {
  readonly sourceId: string
  readonly lastGoodId: string | null
  readonly lastGoodAt: Date | null
  /** Where the last good one lies. */
  readonly target: string
  readonly verifiedAt: Date | null
  readonly testRestoredAt: Date | null
}

/** The last good backup of each source, and when the newest of its good ones were verified. */
export async function sourceStandings(db: Db): Promise<Map<string, SourceStanding>> {
  const rows = await db
    .selectDistinctOn([backups.sourceId], {
      sourceId: backups.sourceId,
      lastGoodId: backups.id,
      lastGoodAt: backups.createdAt,
      target: backups.target,
      verifiedAt: sql<string | null>`max(${backups.verifiedAt}) over (partition by ${backups.sourceId})`,
      testRestoredAt: sql<string | null>`max(${backups.testRestoredAt}) over (partition by ${backups.sourceId})`,
    })
    .from(backups)
    .where(eq(backups.status, 'good'))
    .orderBy(backups.sourceId, desc(backups.createdAt), desc(backups.id))
  return new Map(
    rows.map((row) => [
      row.sourceId,
      { ...row, verifiedAt: instantOf(row.verifiedAt), testRestoredAt: instantOf(row.testRestoredAt) },
    ]),
  )
}

export interface OwnLook {
  readonly verifiedAt: Date | null
  readonly testRestoredAt: Date | null
}

/**
 * When the hosts that made the good backups of each source last found one in order themselves: evidence that does not count (recordVerification), for
 * whoever asks why. A verification that left packs out said nothing of its backup.
 */
export async function ownLooks(db: Db): Promise<Map<string, OwnLook>> {
  const newest = (kind: 'verify' | 'test-restore') =>
    sql<string | null>`max(${verifications.finishedAt}) filter (where ${verifications.kind} = ${kind})`
  const packs = sql`${verifications.detail} -> 'packs'`
  const rows = await db
    .select({ sourceId: backups.sourceId, verifiedAt: newest('verify'), testRestoredAt: newest('test-restore') })
    .from(verifications)
    .innerJoin(backups, eq(backups.id, verifications.backupId))
    .where(
      and(
        eq(backups.status, 'good'),
        eq(verifications.by, backups.host),
        eq(verifications.valid, true),
        sql`(${packs} -> 'chosen') is not distinct from (${packs} -> 'needed')`,
      ),
    )
    .groupBy(backups.sourceId)
  return new Map(
    rows.map((row) => [row.sourceId, { verifiedAt: instantOf(row.verifiedAt), testRestoredAt: instantOf(row.testRestoredAt) }]),
  )
}

const instantOf = (value: string | Date | null): Date | null => (value === null ? null : new Date(value))

export interface Failure {
  readonly jobId: string
  readonly at: Date
  readonly code: string
  readonly message: string
}

/** The newest failed backup job of each source that has had one. */
export async function lastFailures(db: Db): Promise<Map<string, Failure>> {
  const rows = await db
    .selectDistinctOn([jobs.sourceId], {
      sourceId: jobs.sourceId,
      jobId: jobs.id,
      at: jobs.finishedAt,
      code: jobs.errorCode,
      message: jobs.errorMessage,
    })
    .from(jobs)
    .where(and(eq(jobs.kind, 'backup'), eq(jobs.state, 'failed'), isNotNull(jobs.sourceId)))
    .orderBy(jobs.sourceId, desc(jobs.finishedAt))
  return new Map(
    rows.map((row) => [
      row.sourceId ?? '',
      { jobId: row.jobId, at: row.at ?? new Date(0), code: row.code ?? 'internal', message: row.message ?? '' },
    ]),
  )
}

export async function unfinishedJobs(db: Db): Promise<{ queued: number; running: number }> {
  const rows = await db
    .select({ queued: sql<boolean>`${jobs.state} = 'queued'`, jobs: count() })
    .from(jobs)
    .where(isNull(jobs.finishedAt))
    .groupBy(sql`1`)
  const of = (queued: boolean) => rows.find((row) => row.queued === queued)?.jobs ?? 0
  return { queued: of(true), running: of(false) }
}

export async function agentsInUse(db: Db): Promise<number> {
  return await db.$count(agents, inArray(agents.state, ['active', 'suspended']))
}

export async function sourcesPresent(db: Db): Promise<number> {
  return await db.$count(sources, eq(sources.present, true))
}
