import { HoldfastError } from '../../shared/errors.ts'
import { BACKUP_ID, JOB_ID } from '../../shared/ids.ts'
import type { BackupView } from '../api/schemas/backups.ts'
import type { JobView } from '../api/schemas/jobs.ts'
import type { Client } from './client.ts'
import { requireKnownSource, sourceName } from './known-source.ts'

interface Items<Item> {
  readonly items: readonly Item[]
}

/** A backup by id, by a unique beginning or ending of one, or `latest:host/name`: the last good one of a source. */
export async function resolveBackup(client: Client, text: string): Promise<BackupView> {
  if (text.startsWith('latest:')) return await latest(client, text.slice('latest:'.length))
  if (BACKUP_ID.test(text)) return await client.get<BackupView>(`/api/v1/backups/${text}`)
  return only('backup', text, await found<BackupView>(client, '/api/v1/backups', text))
}

export async function resolveJob(client: Client, text: string): Promise<JobView> {
  if (JOB_ID.test(text)) return await client.get<JobView>(`/api/v1/jobs/${text}`)
  return only('job', text, await found<JobView>(client, '/api/v1/jobs', text))
}

async function latest(client: Client, source: string): Promise<BackupView> {
  const page = await client.get<Items<BackupView>>('/api/v1/backups', { source: sourceName(source), status: 'good', limit: 1 })
  const [backup] = page.items
  if (backup) return backup
  await requireKnownSource(client, source)
  throw new HoldfastError('not_found', `source ${source} has no good backup`, {
    hint: 'Make one with "holdfast create", or look at "holdfast list".',
  })
}

async function found<Item>(client: Client, path: string, text: string): Promise<readonly Item[]> {
  if (!/^[0-9A-Za-z-]{1,27}$/.test(text)) return []
  return (await client.get<Items<Item>>(path, { id: text, limit: 5 })).items
}

function only<Item extends { id: string }>(what: string, text: string, items: readonly Item[]): Item {
  const [first, second] = items
  if (first && !second) return first
  if (!first) {
    throw new HoldfastError('not_found', `no ${what} has an id that begins or ends with ${JSON.stringify(text)}`, {
      hint: `List them with "holdfast ${what === 'job' ? 'jobs' : 'list'}".`,
    })
  }
  throw new HoldfastError(
    'ambiguous',
    `${JSON.stringify(text)} fits more than one ${what}: ${items.map((item) => item.id).join(', ')}`,
    {
      hint: 'Give more of the id.',
    },
  )
}
