import { readdir, readFile, rm } from 'node:fs/promises'
import path from 'node:path'
import { z } from 'zod'
import { syncFolder, writeDurably } from '../../shared/durable-file.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { JobCommand, JobResult } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import { JOB_ID } from '../../shared/ids.ts'
import { readJson } from '../../shared/json.ts'
import type { StoredPack } from '../../shared/repository/repository.ts'
import { Secret } from '../../shared/secret.ts'
import { rememberPack } from './stored-packs.ts'

/**
 * What this agent was told to do and how it ended. A command is on the disk (file and folder synced) before it is
 * acknowledged; a result stays until the control plane confirms it; the key and the packs of a backup's attempts stay until the
 * job is over, so that a later attempt sends nothing twice. One file per job, mode 0600, and one for its packs.
 */

const base64 = z.string().regex(/^[A-Za-z0-9+/]*={0,2}$/)

const recordSchema = z.strictObject({
  job_id: z.string().regex(JOB_ID),
  attempt: z.number().int().positive(),
  state: z.enum(['accepted', 'running', 'finished', 'confirmed']),
  command: base64,
  result: base64.nullable(),
  /** Data keys of a backup's attempts, the newest last. */
  keys: z.array(z.strictObject({ attempt: z.number().int().positive(), key: base64 })),
  /** The gear key of a full, so that its next attempt cuts at the same places. */
  gear_key: base64.nullable(),
  /** The age identity of a job that has to be unlocked: its further attempts need no second unlock. */
  job_key: z.string().max(200).optional(),
})
type StoredRecord = z.infer<typeof recordSchema>

export interface JournalRecord {
  readonly jobId: string
  readonly attempt: number
  /** `confirmed`: the result is known to the control plane, but the job may be tried again. */
  readonly state: 'accepted' | 'running' | 'finished' | 'confirmed'
  readonly command: JobCommand
  readonly result: JobResult | null
  readonly jobKey: Secret | null
}

/** What a new attempt brings; what the job has already goes on. */
export interface NewKeys {
  /** For a backup: the attempt's own data key, and a gear key if it turns out to need one. */
  readonly backup?: { readonly dataKey: Secret<Buffer>; readonly gearKey: Secret<Buffer> }
  /** For a job that has to be unlocked. */
  readonly jobKey?: Secret
}

export class Journal {
  readonly #folder: string
  readonly #records = new Map<string, StoredRecord>()
  /** One change at a time: two at once would race for a job's file. */
  #queue: Promise<unknown> = Promise.resolve()

  private constructor(folder: string) {
    this.#folder = folder
  }

  /** Reads the journal; a file that cannot be read is an error naming it, never skipped: it may hold an unconfirmed result. */
  static async open(folder: string): Promise<Journal> {
    const journal = new Journal(folder)
    for (const name of await readdir(folder)) {
      if (!name.endsWith('.json')) continue
      const file = path.join(folder, name)
      const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
        // over since the folder was read: the agent goes on while somebody looks
        if (error.code === 'ENOENT') return null
        throw error
      })
      if (text === null) continue
      const parsed = readJson(text, recordSchema)
      if (!parsed.success) {
        throw new HoldfastError('internal', `journal file ${file} is damaged`, {
          hint: 'Move the file away to start without it; the control plane will then declare that job lost.',
          cause: parsed.error,
        })
      }
      journal.#records.set(parsed.data.job_id, parsed.data)
    }
    return journal
  }

  records(): JournalRecord[] {
    return [...this.#records.values()].map(toRecord)
  }

  get(jobId: string): JournalRecord | undefined {
    const stored = this.#records.get(jobId)
    return stored && toRecord(stored)
  }

  /** Durable when it returns. */
  async accept(command: JobCommand, { backup: keys, jobKey }: NewKeys = {}): Promise<void> {
    const before = this.#records.get(command.jobId)
    const earlier = before?.keys ?? []
    const job_key = before?.job_key ?? jobKey?.reveal()
    await this.#write({
      job_id: command.jobId,
      attempt: command.attempt,
      state: 'accepted',
      command: Buffer.from(JobCommand.encode(command).finish()).toString('base64'),
      result: null,
      keys: keys ? [...earlier, { attempt: command.attempt, key: keys.dataKey.reveal().toString('base64') }] : earlier,
      gear_key: before?.gear_key ?? (keys ? keys.gearKey.reveal().toString('base64') : null),
      ...(job_key === undefined ? {} : { job_key }),
    })
  }

  async running(jobId: string): Promise<void> {
    await this.#change(jobId, { state: 'running' })
  }

  /** Of an attempt that a newer one has replaced nothing is kept: its result must not pass for the newer one's. */
  async finished(result: JobResult): Promise<void> {
    const stored = this.#records.get(result.jobId)
    if (stored && stored.attempt !== result.attempt) return
    await this.#change(result.jobId, {
      state: 'finished',
      result: Buffer.from(JobResult.encode(result).finish()).toString('base64'),
    })
  }

  /**
   * The control plane knows the result of this attempt. `final`: nothing of the job is needed any more. A word that comes before the result
   * (a backup may be good before its process has ended) changes nothing: the result is sent, and confirmed, all the same.
   */
  async confirmed(jobId: string, attempt: number, final: boolean): Promise<void> {
    const stored = this.#records.get(jobId)
    if (stored?.attempt !== attempt || stored.state === 'accepted' || stored.state === 'running') return
    if (!final && (stored.keys.length > 0 || stored.job_key !== undefined)) return this.#change(jobId, { state: 'confirmed' })
    await this.#serial(async () => {
      this.#records.delete(jobId)
      await rm(this.#file(jobId), { force: true })
      await rm(this.packsFile(jobId), { force: true })
      await syncFolder(this.#folder)
    })
  }

  /** The keys of the job's current attempt. */
  keys(jobId: string): { dataKey: Secret<Buffer>; gearKey: Secret<Buffer> } {
    const stored = this.#records.get(jobId)
    const key = stored?.keys.find((entry) => entry.attempt === stored.attempt)
    if (!stored?.gear_key || !key) {
      throw new HoldfastError('key_missing', `the journal holds no data key for job ${jobId}`, {
        hint: 'Start the backup again.',
      })
    }
    return { dataKey: secretBytes(key.key), gearKey: secretBytes(stored.gear_key) }
  }

  /** Null for a job that need not be unlocked. */
  jobKey(jobId: string): Secret | null {
    return this.get(jobId)?.jobKey ?? null
  }

  /** The keys of the job's earlier attempts. Their packs are in `packsFile` (stored-packs.ts). */
  earlier(jobId: string): Array<{ attempt: number; dataKey: Secret<Buffer> }> {
    const stored = this.#records.get(jobId)
    return (stored?.keys ?? [])
      .filter((entry) => entry.attempt < (stored?.attempt ?? 0))
      .map((entry) => ({ attempt: entry.attempt, dataKey: secretBytes(entry.key) }))
  }

  async packStored(jobId: string, attempt: number, pack: StoredPack): Promise<void> {
    await rememberPack(this.#folder, this.packsFile(jobId), attempt, pack)
  }

  /** The store has lost some of what it confirmed: nothing that it confirmed is believed any more, and the next attempt sends all. */
  async forgetPacks(jobId: string): Promise<void> {
    await rm(this.packsFile(jobId), { force: true })
    await syncFolder(this.#folder)
  }

  packsFile(jobId: string): string {
    return path.join(this.#folder, `${requireJobId(jobId)}.packs`)
  }

  async #change(jobId: string, change: Partial<StoredRecord>): Promise<void> {
    const stored = this.#records.get(jobId)
    if (!stored) throw new HoldfastError('not_found', `job ${jobId} is not in the journal`)
    await this.#write({ ...stored, ...change })
  }

  async #write(record: StoredRecord): Promise<void> {
    await this.#serial(async () => {
      await writeDurably(this.#file(record.job_id), JSON.stringify(record))
      this.#records.set(record.job_id, record)
    })
  }

  #serial<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#queue.then(work, work)
    this.#queue = next.catch(() => undefined)
    return next
  }

  #file(jobId: string): string {
    return path.join(this.#folder, `${requireJobId(jobId)}.json`)
  }
}

/** Job ids come over the wire and become file names. */
function requireJobId(jobId: string): string {
  if (JOB_ID.test(jobId)) return jobId
  throw new HoldfastError('invalid_argument', `job id ${JSON.stringify(jobId.slice(0, 64))} is not allowed`)
}

function toRecord(stored: StoredRecord): JournalRecord {
  return {
    jobId: stored.job_id,
    attempt: stored.attempt,
    state: stored.state,
    command: JobCommand.decode(Buffer.from(stored.command, 'base64')),
    result: stored.result === null ? null : JobResult.decode(Buffer.from(stored.result, 'base64')),
    jobKey: stored.job_key === undefined ? null : new Secret(stored.job_key),
  }
}

const secretBytes = (text: string): Secret<Buffer> => new Secret(Buffer.from(text, 'base64'))
