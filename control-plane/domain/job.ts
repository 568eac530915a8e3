/** The life of a job. Pure: no clock, no I/O. The same rules stand in SQL (catalog/jobs.ts guards each change of state). */

export const JOB_KINDS = ['backup', 'restore', 'validate', 'verify', 'test-restore', 'discover', 'preflight'] as const
export type JobKind = (typeof JOB_KINDS)[number]

export const JOB_STATES = [
  'queued',
  'dispatched',
  'running',
  'committing',
  'validating',
  'succeeded',
  'failed',
  'cancelled',
  'lost',
] as const
export type JobState = (typeof JOB_STATES)[number]
