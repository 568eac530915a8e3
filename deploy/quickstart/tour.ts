import { readdir } from 'node:fs/promises'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { timeText } from '../../control-plane/cli/text.ts'
import type { RunningServer } from '../../control-plane/server/start-server.ts'
import { HoldfastError } from '../../shared/errors.ts'
import type { TestRestoreDetail } from '../../shared/results.ts'
import { sizeText } from '../../shared/size-text.ts'
import { grouped, row } from './print.ts'
import { addNotes, type Sample } from './sample.ts'

interface TourOptions {
  readonly server: RunningServer
  readonly host: string
  readonly sample: Sample
  readonly stop: AbortSignal
}

const MORE_ROWS = 50

/** Backs the sample up, adds rows, backs up what changed, and proves it by a test restore: the same use cases as the API's. */
export class Tour {
  readonly #options: TourOptions

  constructor(options: TourOptions) {
    this.#options = options
  }

  async showSources(): Promise<void> {
    const { host, sample } = this.#options
    const files = await countFiles(sample.config)
    row(true, 'sources', `${host}/notes (sqlite, ${grouped(addNotes(sample.notes, 0))} rows)   ${host}/config (files, ${files})`)
  }

  /** What an earlier start was stopped in the middle of goes on by itself now; beside it nothing else of that source may run. */
  async finishEarlier(): Promise<void> {
    const { server, host } = this.#options
    for (const source of [`${host}/notes`, `${host}/config`]) {
      const { items } = await server.operations.listJobs(server.operator, { source, unfinished: true }, { limit: 10 })
      for (const job of items) {
        row(null, 'carries on', `${source}   the ${job.kind} that was stopped`)
        const over = await this.#over(job)
        if (over.status === 'succeeded' && over.kind === 'backup') this.#show(await this.#backup(over), '')
      }
    }
  }

  /** Sources of the sample without a good backup: all at the first start, some when it was stopped before it had shown everything. */
  async unprotected(): Promise<string[]> {
    const { server, host } = this.#options
    const without: string[] = []
    for (const source of [`${host}/notes`, `${host}/config`]) {
      const { items } = await server.operations.listBackups(server.operator, { source, status: 'good' }, { limit: 1 })
      if (items.length === 0) without.push(source)
    }
    return without
  }

  async backUpAndProve(unprotected: readonly string[]): Promise<boolean> {
    const notes = `${this.#options.host}/notes`
    const fulls: BackupView[] = []
    for (const source of unprotected) fulls.push(await this.#backUp(source, 'full', ''))
    addNotes(this.#options.sample.notes, MORE_ROWS)
    const next = await this.#backUp(notes, 'incremental', `   (after ${MORE_ROWS} more rows)`)
    const full = fulls.find(({ source }) => source === notes)
    const leans = !full || next.leans_on.includes(full.id)
    if (!leans) row(false, 'backup', `the incremental does not lean on ${full?.id}`)
    return (await this.#testRestore(notes, next)) && leans
  }

  async showBackups(): Promise<boolean> {
    const { server } = this.#options
    const { items } = await server.operations.listBackups(server.operator, { status: 'good' }, { limit: 3 })
    for (const backup of items) this.#show(backup, `   (made ${timeText(backup.created_at)})`)
    return true
  }

  async #backUp(source: string, type: 'full' | 'incremental', note: string): Promise<BackupView> {
    const { server } = this.#options
    const request = { type, sources: [source], all: false, dataset_ids: [], dry_run: false, description: 'quickstart' }
    const [started] = await server.operations.startBackup(server.operator, request)
    const job = await this.#finished(started)
    const backup = await this.#backup(job)
    this.#show(backup, note)
    return backup
  }

  #backup(job: JobView): Promise<BackupView> {
    const { server } = this.#options
    return server.operations.getBackup(server.operator, job.backup_id ?? '')
  }

  #show(backup: BackupView, note: string): void {
    const read = `${sizeText(backup.size_bytes ?? 0)} read`.padEnd(13)
    const stored = `${sizeText(backup.stored_bytes ?? 0)} stored`.padEnd(16)
    const verdict = backup.valid === true ? 'valid' : 'NOT VALID'
    row(backup.valid === true, 'backup', `${backup.source}   ${backup.type.padEnd(12)} ${read} ${stored} ${verdict}${note}`)
  }

  async #testRestore(source: string, backup: BackupView): Promise<boolean> {
    const { server } = this.#options
    const job = await this.#finished(await server.operations.startTestRestore(server.operator, backup.id, {}))
    const detail = job.detail as unknown as TestRestoreDetail
    const { found, expected } = detail.total
    const text = `${source}   ${grouped(found)} of ${grouped(expected)} rows match, ${detail.seconds.toFixed(1)} s`
    row(detail.valid, 'test restore', text)
    return detail.valid
  }

  /** Follows the job's events to its end, whichever that is. */
  async #over({ id }: JobView): Promise<JobView> {
    const { server, stop } = this.#options
    for await (const _ of server.operations.jobEvents(server.operator, id, { after: 0, signal: stop })) stop.throwIfAborted()
    return server.operations.getJob(server.operator, id)
  }

  async #finished(started: JobView | undefined): Promise<JobView> {
    if (!started) throw new HoldfastError('internal', 'no job was started')
    const job = await this.#over(started)
    if (job.status === 'succeeded') return job
    throw new HoldfastError(
      'internal',
      `the ${job.kind} of ${job.source} is ${job.status}: ${job.error?.message ?? 'no reason'}`,
      {
        hint: job.error?.hint ?? undefined,
      },
    )
  }
}

async function countFiles(folder: string): Promise<number> {
  return (await readdir(folder, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile()).length
}
