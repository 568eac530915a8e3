import { type SQL, sql } from 'drizzle-orm'
import type { BackupType } from '../domain/job-spec.ts'
import type { Db } from './catalog.ts'
import { rowsOf } from './sql.ts'

/** Figures for Prometheus, counted in the catalog: a restart forgets nothing, and every control plane of a catalog says the same. */

export type Ended = { readonly status: string; readonly jobs: number }

export interface Durations {
  readonly count: number
  readonly sumSeconds: number
  /** Cumulative, one for each bound asked for. */
  readonly buckets: readonly number[]
}

/** Backups that ended, by the type that was made in the end; dry runs are left out. */
export async function backupsEnded(db: Db): Promise<(Ended & { type: BackupType })[]> {
  return await rowsOf<Ended & { type: BackupType }>(
    db,
    sql`select coalesce(b.type, j.spec->>'type') as type, j.state as status, count(*)::int as jobs
    from jobs j left join backups b on b.id = j.backup_id
    where ${isRealBackup} group by 1, 2`,
  )
}

export async function restoresEnded(db: Db): Promise<Ended[]> {
  return await rowsOf<Ended>(
    db,
    sql`select j.state as status, count(*)::int as jobs from jobs j where ${isRealRestore} group by 1`,
  )
}

/** Share of the backups since then that succeeded; a type with none is not in it. Cancelled ones count neither way. */
export async function successRates(db: Db, since: Date): Promise<{ type: BackupType; rate: number }[]> {
  return await rowsOf(
    db,
    sql`select coalesce(b.type, j.spec->>'type') as type, avg((j.state = 'succeeded')::int)::float8 as rate
    from jobs j left join backups b on b.id = j.backup_id
    where ${isRealBackup} and j.state in ('succeeded', 'failed') and j.finished_at >= ${since.toISOString()}::timestamptz
    group by 1`,
  )
}

export async function backupDurations(db: Db, bounds: readonly number[]): Promise<(Durations & { type: BackupType })[]> {
  const rows = await rowsOf<DurationRow & { type: BackupType }>(
    db,
    sql`select type, ${figures(bounds)} from (
      select coalesce(b.type, j.spec->>'type') as type, ${seconds} as seconds
      from jobs j left join backups b on b.id = j.backup_id
      where ${isRealBackup} and j.state = 'succeeded' and j.started_at is not null
    ) ended group by type`,
  )
  return rows.map((row) => ({ type: row.type, ...durationsOf(row, bounds) }))
}

export async function restoreDurations(db: Db, bounds: readonly number[]): Promise<Durations> {
  const [row] = await rowsOf<DurationRow>(
    db,
    sql`select ${figures(bounds)} from (
      select ${seconds} as seconds from jobs j where ${isRealRestore} and j.state = 'succeeded' and j.started_at is not null
    ) ended`,
  )
  return durationsOf(row ?? {}, bounds)
}

/** The last good backup of each type: when it was ready, and what it read. */
export async function lastGoodByType(db: Db): Promise<{ type: BackupType; finishedSeconds: number; sizeBytes: number }[]> {
  return await rowsOf(
    db,
    sql`select distinct on (type) type, extract(epoch from coalesce(finished_at, created_at))::float8 as "finishedSeconds",
      coalesce(size_bytes, 0)::float8 as "sizeBytes"
    from backups where status = 'good' order by type, coalesce(finished_at, created_at) desc`,
  )
}

export type SourceAge = {
  readonly source: string
  readonly engine: string
  readonly createdSeconds: number
  readonly lastGoodSeconds: number | null
  readonly testRestoredSeconds: number | null
}

/** Of every source that an agent still names. A backup of some parts protects those alone, and does not count. */
export async function sourceAges(db: Db): Promise<SourceAge[]> {
  return await rowsOf<SourceAge>(
    db,
    sql`select s.host || '/' || s.name as source, s.engine,
      extract(epoch from s.created_at)::float8 as "createdSeconds",
      extract(epoch from max(b.created_at) filter (where b.parts = '[]'::jsonb))::float8 as "lastGoodSeconds",
      extract(epoch from max(b.test_restored_at))::float8 as "testRestoredSeconds"
    from sources s left join backups b on b.source_id = s.id and b.status = 'good'
    where s.present group by s.id order by 1`,
  )
}

const isRealBackup = sql`j.kind = 'backup' and j.finished_at is not null and coalesce(j.spec->>'dry_run', 'false') <> 'true'`
const isRealRestore = sql`j.kind = 'restore' and j.finished_at is not null and coalesce(j.spec->>'plan_only', 'false') <> 'true'`
const seconds = sql`greatest(0, extract(epoch from j.finished_at - j.started_at))`

type DurationRow = Record<string, unknown>

/** The bounds are numbers of this program's own. */
function figures(bounds: readonly number[]): SQL {
  const buckets = bounds.map((bound, i) => sql.raw(`(count(*) filter (where seconds <= ${bound}))::int as b${i}`))
  return sql.join([sql`count(*)::int as count`, sql`coalesce(sum(seconds), 0)::float8 as sum`, ...buckets], sql`, `)
}

function durationsOf(row: DurationRow, bounds: readonly number[]): Durations {
  return {
    count: Number(row.count ?? 0),
    sumSeconds: Number(row.sum ?? 0),
    buckets: bounds.map((_, i) => Number(row[`b${i}`] ?? 0)),
  }
}
