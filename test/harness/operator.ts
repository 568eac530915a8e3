import type { BackupView, ValidationView } from '../../control-plane/api/schemas/backups.ts'
import type { JobEventView, JobView } from '../../control-plane/api/schemas/jobs.ts'
import { waitFor } from './wait.ts'

/** An operator with an API key, over real HTTP. */
export class Operator {
  readonly url: string
  readonly key: string

  constructor(url: string, key: string) {
    this.url = url
    this.key = key
  }

  async call(method: string, path: string, body?: unknown): Promise<{ status: number; body: unknown }> {
    const response = await fetch(`${this.url}${path}`, {
      method,
      headers: { authorization: `ApiKey ${this.key}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
    const text = await response.text()
    return { status: response.status, body: text === '' ? null : JSON.parse(text) }
  }

  /** The answer's body; an answer that is no success is an error with it. */
  async ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    const answer = await this.call(method, path, body)
    if (answer.status < 300) return answer.body as T
    throw new Error(`${method} ${path} answered ${answer.status}: ${JSON.stringify(answer.body)}`)
  }

  job(id: string): Promise<JobView> {
    return this.ask('GET', `/api/v1/jobs/${id}`)
  }

  /** All that is kept of a job that is over, in order. */
  async events(id: string): Promise<JobEventView[]> {
    const response = await fetch(`${this.url}/api/v1/jobs/${id}/events`, { headers: { authorization: `ApiKey ${this.key}` } })
    const text = await response.text()
    if (!/^event: end$/m.test(text)) throw new Error(`events of ${id} were answered ${response.status}: ${text}`)
    const events = [...text.matchAll(/^data: (.*)$/gm)].map(([, data = '']) => JSON.parse(data) as Partial<JobEventView>)
    return events.filter((event): event is JobEventView => event.type !== undefined)
  }

  backup(id: string): Promise<BackupView> {
    return this.ask('GET', `/api/v1/backups/${id}`)
  }

  async startBackup(source: string, type: BackupView['type'], more: Record<string, unknown> = {}): Promise<JobView> {
    return this.ask('POST', '/api/v1/backups', { type, sources: [source], ...more })
  }

  startRestore(id: string, body: Record<string, unknown>): Promise<JobView> {
    return this.ask('POST', `/api/v1/backups/${id}/restore`, body)
  }

  /** The job once it is over, however it ended. */
  async over(job: JobView, timeoutMs = 120_000): Promise<JobView> {
    return waitFor(
      `the ${job.kind} job ${job.id} to be over`,
      async () => {
        const now = await this.job(job.id)
        return ['succeeded', 'failed', 'cancelled'].includes(now.status) && now
      },
      { timeoutMs, everyMs: 250 },
    )
  }

  /** The job once it has succeeded; any other end is an error with its reason. */
  async done(job: JobView, timeoutMs?: number): Promise<JobView> {
    const over = await this.over(job, timeoutMs)
    if (over.status === 'succeeded') return over
    throw new Error(`the ${over.kind} ${over.id} is ${over.status}: ${JSON.stringify(over.error)}`)
  }

  /** A good backup, made now. */
  async backUp(
    source: string,
    type: BackupView['type'],
    more: Record<string, unknown> = {},
  ): Promise<BackupView & { job: JobView }> {
    const job = await this.done(await this.startBackup(source, type, more))
    return { ...(await this.backup(job.backup_id ?? '')), job }
  }

  async restore(id: string, body: Record<string, unknown>): Promise<JobView> {
    return this.done(await this.startRestore(id, body))
  }

  /** What a check found, also where it took so long that it became a job. */
  async validate(id: string): Promise<ValidationView> {
    const answer = await this.ask<ValidationView | JobView>('GET', `/api/v1/backups/${id}/validate`)
    return 'kind' in answer ? ((await this.done(answer)).detail as ValidationView) : answer
  }

  async verify(id: string, on?: string): Promise<JobView> {
    return this.done(await this.ask<JobView>('POST', `/api/v1/backups/${id}/verify`, on === undefined ? {} : { on }))
  }

  async testRestore(id: string, via?: string): Promise<JobView> {
    return this.done(await this.ask<JobView>('POST', `/api/v1/backups/${id}/test-restore`, via === undefined ? {} : { via }))
  }
}
