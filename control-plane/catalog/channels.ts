/** What NOTIFY wakes. Nobody relies on it: a poll decides, so that a lost notification costs two seconds. */
export const CHANNELS = {
  /** Payload: agent id. Something is queued or to be cancelled for that agent. */
  work: 'holdfast_work',
  /** Payload: job id. A row of `job_events` was added. */
  jobEvents: 'holdfast_job_events',
  /** Payload: JSON {job_id, attempt, progress}. */
  jobProgress: 'holdfast_job_progress',
  /** Payload: agent id. It was revoked, suspended or replaced, or its session superseded. */
  agents: 'holdfast_agents',
  /** Payload: what changed. The self-backup is made at once. */
  protection: 'holdfast_protection',
} as const
