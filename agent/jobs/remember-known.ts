import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { writeDurably } from '../../shared/durable-file.ts'
import { asHoldfastError } from '../../shared/errors.ts'
import { dropKnown, keepKnown } from '../../shared/repository/known.ts'
import type { JobContext } from './context.ts'

interface Made {
  readonly scratch: string
  readonly knownFolder: string
  readonly plan: { readonly type: string }
}

/**
 * Keeps the list of known chunks of the backup that was just committed, and that of the last full, on which differentials lean; the
 * others go. The backup is good without it: a list that could not be kept is rebuilt from the backup's `index` when it is needed.
 */
export async function rememberKnown(job: JobContext, made: Made, backup: { id: string; manifestSha256: Buffer }): Promise<void> {
  try {
    await keepKnown(made.scratch, made.knownFolder, backup)
    const marker = path.join(made.knownFolder, 'last-full')
    if (made.plan.type === 'full') await writeDurably(marker, backup.id)
    await dropKnown(made.knownFolder, [backup.id, await lastFull(marker)])
  } catch (error) {
    const { code, message } = asHoldfastError(error)
    job.finding({
      code: 'known_list_not_kept',
      severity: 'warning',
      message: `the list of known chunks could not be kept (${code}: ${message})`,
      hint: 'Look at the disk of the agent’s state folder; the next incremental rebuilds the list from the store.',
    })
  }
}

async function lastFull(marker: string): Promise<string> {
  try {
    return await readFile(marker, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw error
  }
}
