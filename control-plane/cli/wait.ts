import type { Clock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { EXIT, type ExitStatus } from '../../shared/exit-status.ts'
import { type Finding, restoreDetailSchema } from '../../shared/results.ts'
import type { JobEventView, JobView, ProgressView } from '../api/schemas/jobs.ts'
import type { Client } from './client.ts'
import type { ProgressDisplay } from './progress.ts'

/** A restart of the control plane takes seconds; the job goes on meanwhile. */
const PATIENCE_MS = 120_000
const POLL_MS = 2000
const PAGE = 500

/** `lost` is an end for whoever waits: nothing more happens until the agent or an operator says so. */
const ENDS: ReadonlySet<JobView['status']> = new Set(['succeeded', 'failed', 'cancelled', 'lost'])
export const isOver = (job: JobView) => ENDS.has(job.status)

/** The jobs as they ended, in the order given. */
export async function waitForJobs(
  { client, clock }: { client: Client; clock: Clock },
  jobs: readonly JobView[],
  display: ProgressDisplay,
): Promise<JobView[]> {
  try {
    const [only, second] = jobs
    if (only && !second) return [await followOne(client, clock, only, display)]
    return await pollMany(client, clock, jobs, display)
  } finally {
    display.close()
  }
}

/** Each job's own events; a stream that breaks is taken up where it ended. */
async function followOne(client: Client, clock: Clock, started: JobView, display: ProgressDisplay): Promise<JobView> {
  let job = started
  display.update(job)
  for await (const event of resumed(client, clock, job.id)) {
    job = applied(job, event)
    display.update(job)
    const waits = unlockHint(event)
    if (waits) display.note(waits)
    if (isOver(job)) break
  }
  job = await patiently(clock, () => client.get<JobView>(`/api/v1/jobs/${job.id}`))
  display.update(job)
  return job
}

/** The events of a job until its end, however often the connection breaks, as long as it comes back. */
export async function* resumed(client: Client, clock: Clock, jobId: string): AsyncIterable<JobEventView> {
  let after = 0
  let silentSinceMs = clock.monotonicMs()
  for (;;) {
    try {
      for await (const event of client.events(jobId, after)) {
        silentSinceMs = clock.monotonicMs()
        if (event.id !== null) after = event.id
        yield event
      }
      return
    } catch (error) {
      if (!isAway(error) || clock.monotonicMs() - silentSinceMs > PATIENCE_MS) throw error
      await clock.sleep(POLL_MS)
    }
  }
}

/** Who waits for the job has to hear that it waits for them. */
function unlockHint({ type, data }: JobEventView): string | null {
  if (type !== 'finding' || data.code !== 'unlock_needed') return null
  return `${String(data.message)}. ${String(data.hint)}`
}

function applied(job: JobView, event: JobEventView): JobView {
  if (event.type === 'progress') return { ...job, progress: event.data as unknown as ProgressView }
  const { state } = event.data
  return event.type === 'state' && typeof state === 'string' ? { ...job, status: state as JobView['status'] } : job
}

/** Many are read from the list, newest first, in as few calls as it takes. */
async function pollMany(client: Client, clock: Clock, started: readonly JobView[], display: ProgressDisplay): Promise<JobView[]> {
  const jobs = new Map(started.map((job) => [job.id, job]))
  for (;;) {
    for (const job of jobs.values()) display.update(job)
    const open = new Set([...jobs.values()].filter((job) => !isOver(job)).map((job) => job.id))
    if (open.size === 0) return started.map((job) => jobs.get(job.id) ?? job)
    await clock.sleep(POLL_MS)
    let cursor: string | null = null
    do {
      const page: { items: JobView[]; next_cursor: string | null } = await patiently(clock, () =>
        client.get('/api/v1/jobs', { limit: PAGE, cursor: cursor ?? undefined }),
      )
      for (const job of page.items) {
        if (open.delete(job.id)) jobs.set(job.id, job)
      }
      cursor = open.size > 0 ? page.next_cursor : null
    } while (cursor !== null)
  }
}

async function patiently<T>(clock: Clock, ask: () => Promise<T>): Promise<T> {
  const beganMs = clock.monotonicMs()
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      if (!isAway(error) || clock.monotonicMs() - beganMs > PATIENCE_MS) throw error
      await clock.sleep(POLL_MS)
    }
  }
}

const isAway = (error: unknown) =>
  error instanceof HoldfastError && (error.code === 'server_unreachable' || error.code === 'rate_limited')

/** A plan ends as the restore would: with a finding of severity error that is refused, before anything is written. */
export function isRefusedPlan(job: JobView): boolean {
  const detail = job.kind === 'restore' ? restoreDetailSchema.safeParse(job.detail) : null
  return detail?.success === true && detail.data.plan_only && detail.data.preview.findings.some(isError)
}

const isError = ({ severity }: Finding) => severity === 'error'

/** One verdict: done, failed, refused where nothing but a refusal was in the way, or done in part. */
export function verdictOf(jobs: readonly JobView[]): ExitStatus {
  const good = jobs.filter((job) => job.status === 'succeeded' && !isRefusedPlan(job)).length
  if (good === jobs.length) return EXIT.done
  if (good > 0) return EXIT.partly
  return jobs.every(wasRefused) ? EXIT.refused : EXIT.failed
}

/** By the host itself, as its owner set it. A database or a bucket that denies access is a failure of the job. */
const wasRefused = ({ error }: JobView) => error?.code === 'restore_not_allowed'
