import { z } from 'zod'
import { JOB_KINDS, JOB_STATES } from '../../domain/job.ts'
import { backupId, bytes, idPart, jobId, line, name, page, pageQuery, sourceName, time } from './common.ts'
import { jobUnlockView } from './unlock.ts'

export const progressView = z
  .object({
    phase: z.string(),
    read_bytes: bytes,
    stored_bytes: bytes,
    skipped_bytes: bytes.describe('found to be stored already; of a restore: found where it is restored, and not fetched'),
    written_bytes: bytes,
    total_bytes: bytes.nullable(),
    objects_done: bytes,
    objects_total: bytes.nullable(),
    chunks: bytes,
    chunks_skipped: bytes,
    bytes_per_second: z.number().nonnegative().nullable(),
    seconds_left: z.number().nonnegative().nullable(),
  })
  .meta({ id: 'Progress' })
export type ProgressView = z.infer<typeof progressView>

export const jobView = z
  .object({
    id: jobId,
    kind: z.enum(JOB_KINDS),
    status: z.enum(JOB_STATES),
    source: sourceName.nullable(),
    agent: name,
    backup_id: backupId.nullable(),
    target: sourceName.nullable().describe('what a restore writes'),
    attempt: z.number().int().nonnegative(),
    progress: progressView.nullable(),
    error: z.object({ code: z.string(), message: z.string(), hint: z.string().nullable() }).nullable(),
    detail: z.record(z.string(), z.unknown()).nullable().describe("the work's own answer"),
    requested_by: z.string(),
    policy: z.string().nullable(),
    created_at: time,
    started_at: time.nullable(),
    finished_at: time.nullable(),
    cancel_requested_at: time.nullable(),
    unlock: jobUnlockView.nullable().describe('what it waits, or waited, for: an operator with a recovery key'),
  })
  .meta({ id: 'Job' })
export type JobView = z.infer<typeof jobView>
export const jobPage = page(jobView).meta({ id: 'JobPage' })

export const jobQuery = z.strictObject({
  ...pageQuery,
  source: sourceName.optional().describe('host/name; one that is not known has none'),
  kind: z.enum(JOB_KINDS).optional(),
  status: z.enum(JOB_STATES).optional(),
  unfinished: z.stringbool().optional(),
  id: idPart.optional(),
})
export type JobFilter = Pick<z.infer<typeof jobQuery>, 'source' | 'kind' | 'status' | 'unfinished' | 'id'>

export const jobParams = z.strictObject({ id: jobId })
/** Said in so many words: two attempts that write one place at once can leave it with parts of both. */
export const forceBody = z
  .strictObject({ risk_accepted: z.literal(true).describe('the lost attempt may still be writing') })
  .meta({ id: 'ForceJob' })
export const cancelBody = z.strictObject({ reason: line(500).optional() }).meta({ id: 'CancelJob' })

/** `id` counts up within a job and is what a stream resumes after; progress is a state, not an event, and has none. */
export const jobEventView = z
  .object({
    id: z.number().int().positive().nullable(),
    type: z.enum(['state', 'progress', 'finding', 'log']),
    at: time,
    attempt: z.number().int().nonnegative(),
    data: z.record(z.string(), z.unknown()),
  })
  .meta({ id: 'JobEvent' })
export type JobEventView = z.infer<typeof jobEventView>

export const logView = z
  .object({
    id: z.number().int().positive(),
    at: time,
    attempt: z.number().int().nonnegative(),
    level: z.string(),
    message: z.string(),
  })
  .meta({ id: 'LogLine' })
export type LogView = z.infer<typeof logView>
export const logPage = page(logView).meta({ id: 'LogPage' })
export const logQuery = z.strictObject(pageQuery)
