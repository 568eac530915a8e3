import { EventEmitter, on } from 'node:events'
import type { Page, PageRequest } from '../api/schemas/common.ts'
import type { JobEventView, LogView } from '../api/schemas/jobs.ts'
import { CHANNELS } from '../catalog/channels.ts'
import { type JobEventRow, listEvents, listLogs } from '../catalog/job-events.ts'
import { getJob } from '../catalog/jobs.ts'
import { isFinished } from '../domain/job.ts'
import type { ControlPlane } from './control-plane.ts'
import { viewProgress } from './views.ts'

/** A lost notification costs this much. */
const POLL_MS = 2000

/** What is added to jobs on any control plane of the catalog, told apart by job. */
export class JobNews {
  readonly #emitter = new EventEmitter().setMaxListeners(0)
  readonly #stops: Array<() => Promise<void>> = []

  async start(cp: Pick<ControlPlane, 'catalog'>): Promise<void> {
    const { catalog } = cp
    this.#stops.push(await catalog.listen(CHANNELS.jobEvents, (jobId) => this.#emitter.emit(jobId)))
    this.#stops.push(
      await catalog.listen(CHANNELS.jobProgress, (payload) => {
        const { job_id } = JSON.parse(payload) as { job_id: string }
        this.#emitter.emit(job_id)
      }),
    )
  }

  /** Ticks at each piece of news of the job, and at least every two seconds, until `signal` aborts. */
  async *ticks(cp: Pick<ControlPlane, 'clock'>, jobId: string, signal: AbortSignal): AsyncIterable<void> {
    const stop = new AbortController()
    const ended = AbortSignal.any([signal, stop.signal])
    const poll = async () => {
      while (!ended.aborted) {
        // ended with the stream
        await cp.clock.sleep(POLL_MS, ended).catch(() => undefined)
        this.#emitter.emit(jobId)
      }
    }
    void poll()
    try {
      yield
      for await (const _ of on(this.#emitter, jobId, { signal: ended })) yield
    } catch (error) {
      if (!ended.aborted) throw error
    } finally {
      stop.abort()
    }
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops.splice(0)) await stop()
  }
}

/** Events above `after`, then live ones; first the present progress, last the final state. */
export async function* jobEvents(
  cp: ControlPlane,
  news: JobNews,
  id: string,
  options: { after: number; signal: AbortSignal },
): AsyncIterable<JobEventView> {
  let after = options.after
  let progressSeen = ''
  for await (const _ of news.ticks(cp, id, options.signal)) {
    // read before the events: a job seen finished here has all its events written
    const job = await getJob(cp.catalog.db, id)
    const progress = JSON.stringify(job.progress)
    if (job.progress !== null && progress !== progressSeen) {
      progressSeen = progress
      const now = cp.clock.now()
      const data = viewProgress(job.progress, job.startedAt, job.finishedAt ?? now)
      yield { id: null, type: 'progress', at: now.toISOString(), attempt: job.attempt, data: { ...data } }
    }
    for (;;) {
      const rows = await listEvents(cp.catalog.db, id, after)
      for (const row of rows) yield viewEvent(row)
      const last = rows.at(-1)
      if (!last) break
      after = last.id
    }
    if (isFinished(job.state)) return
  }
}

const viewEvent = (row: JobEventRow): JobEventView => ({
  id: row.id,
  type: row.type,
  at: row.at.toISOString(),
  attempt: row.attempt,
  data: row.data,
})

export async function jobLogs(cp: ControlPlane, id: string, page: PageRequest): Promise<Page<LogView>> {
  const { items, next_cursor } = await listLogs(cp.catalog.db, id, page)
  return { items: items.map(viewLog), next_cursor }
}

function viewLog(row: JobEventRow): LogView {
  const text = (name: string) => (typeof row.data[name] === 'string' ? row.data[name] : '')
  return { id: row.id, at: row.at.toISOString(), attempt: row.attempt, level: text('level'), message: text('message') }
}
