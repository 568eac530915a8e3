import { HoldfastError } from '../../shared/errors.ts'
import { parseSourceName } from '../../shared/ids.ts'
import { checkValue } from '../../shared/repository/format.ts'
import { openDataKeys, sealDataKeys } from '../../shared/repository/keys.ts'
import type { Secret } from '../../shared/secret.ts'
import type { LockedKeysView, UnlockJob } from '../api/schemas/unlock.ts'

type Locked = LockedKeysView['backups'][number]

/**
 * The data keys of what a job reads, opened here and each sealed to the job's key. What is sealed in a key file is believed, and not what the control
 * plane says of it: a file of another source or backup opens nothing for this job.
 */
export async function sealForJob(locked: LockedKeysView, identities: readonly Secret[]): Promise<UnlockJob['keys']> {
  const read = locked.backups.find((backup) => backup.id === locked.backup_id)
  if (!read) throw refused(`the key files of backup ${locked.backup_id} are missing`)
  const keys: UnlockJob['keys'] = []
  for (const backup of locked.backups) {
    if (backup.source !== read.source) throw refused(`backup ${backup.id} is of ${backup.source}, not of ${read.source}`)
    keys.push(...(await sealBackup(backup, identities, locked.unlock.recipient)))
  }
  return keys
}

async function sealBackup(backup: Locked, identities: readonly Secret[], recipient: string): Promise<UnlockJob['keys']> {
  const { host, name: source } = parseSourceName(backup.source)
  const ref = { host, source, id: backup.id }
  const keys: UnlockJob['keys'] = []
  for (const { attempt, check, name } of backup.keys) {
    const file = backup.files.find((candidate) => candidate.name === name)
    if (!file) throw refused(`${name} of backup ${backup.id} is missing`)
    const place = `${backup.source}/${backup.id}/${name}`
    const opened = await openDataKeys(Buffer.from(file.data, 'base64'), identities, place)
    const { host: inHost, source: inSource, id } = opened.backup
    if (inHost !== host || inSource !== source || id !== backup.id) {
      throw refused(`${place} holds the keys of ${inHost}/${inSource}/${id}`)
    }
    const key = opened.keys.find((row) => row.attempt === attempt)
    if (!key || checkValue(key.dataKey.reveal(), ref, attempt).toString('hex') !== check) {
      throw refused(`${place} does not hold the key of attempt ${attempt} that the manifest means`)
    }
    const sealed = await sealDataKeys(ref, [key], [recipient])
    keys.push({ backup_id: backup.id, attempt, file: sealed.toString('base64') })
  }
  return keys
}

const refused = (why: string): HoldfastError =>
  new HoldfastError('forbidden', `nothing is unlocked: ${why}`, {
    hint: 'Somebody has laid other key files there, or answers in the place of the control plane. Look at both before you go on.',
  })
