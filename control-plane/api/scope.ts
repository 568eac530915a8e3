import { HoldfastError } from '../../shared/errors.ts'
import { selects } from '../domain/source-pattern.ts'
import type { Caller, Operations } from './operations.ts'
import type { BackupView } from './schemas/backups.ts'
import type { JobView } from './schemas/jobs.ts'

/** What a key that is limited to some sources may see and touch. A thing it may not see does not exist for it. */

/** For sources that the request itself names. */
export function requireSources(by: Caller, ...sources: readonly (string | undefined)[]): void {
  for (const source of sources) {
    if (source === undefined || selects(by.sources, source)) continue
    throw new HoldfastError('forbidden', `the API key ${JSON.stringify(by.keyName)} may not use the source ${source}`, {
      hint: 'Use a key whose sources include it; an administrator makes one with "holdfast api-keys create".',
    })
  }
}

export async function visibleBackup(operations: Operations, by: Caller, id: string): Promise<BackupView> {
  const backup = await operations.getBackup(by, id)
  if (selects(by.sources, backup.source)) return backup
  throw new HoldfastError('not_found', `backup ${id} does not exist`)
}

/** A job without a source (discover) is seen only by keys for the whole fleet; what a restore writes counts too. */
export async function visibleJob(operations: Operations, by: Caller, id: string): Promise<JobView> {
  const job = await operations.getJob(by, id)
  if (by.sources.length === 0) return job
  if (job.source !== null && selects(by.sources, job.source) && (!job.target || selects(by.sources, job.target))) return job
  throw new HoldfastError('not_found', `job ${id} does not exist`)
}
