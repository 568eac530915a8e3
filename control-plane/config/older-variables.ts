import { HoldfastError } from '../../shared/errors.ts'
import type { Tree } from './environment.ts'

/**
 * The environment of older backup scripts. BACKUP_STORAGE, BACKUP_PATH and BACKUP_S3_* become a target named `backup`;
 * BACKUP_SCHEDULE and BACKUP_RETENTION_DAYS a policy of that name for every source.
 */

type Environment = Readonly<Record<string, string | undefined>>

/** As in fleet.yaml; null where the variables ask for none. */
export function olderPolicy(environment: Environment, target: string): Tree | null {
  const { BACKUP_SCHEDULE: schedule, BACKUP_RETENTION_DAYS: days } = environment
  if (isOff(environment.BACKUP_ENABLED) || (!schedule && !days)) return null
  if (days !== undefined && !/^[1-9]\d{0,4}$/.test(days)) {
    throw new HoldfastError('invalid_config', `BACKUP_RETENTION_DAYS=${days} is not a number of days`, {
      hint: 'Write a whole number.',
    })
  }
  return {
    targets: [target],
    ...(schedule ? { schedule: { full: schedule } } : {}),
    ...(days ? { retention: { duration: `${days}d` } } : {}),
  }
}

export function olderVariables(environment: Environment): Tree {
  const storage =
    environment.BACKUP_STORAGE ?? (environment.BACKUP_S3_BUCKET ? 's3' : environment.BACKUP_PATH ? 'local' : undefined)
  if (storage === undefined) return {}
  for (const name of ['BACKUP_COMPRESSION', 'BACKUP_ENCRYPTION']) requireOn(name, environment[name])
  return { targets: { backup: target(storage, environment) } }
}

function target(storage: string, environment: Environment): Tree {
  const { BACKUP_PATH: path, BACKUP_S3_BUCKET: bucket, BACKUP_S3_REGION: region, BACKUP_S3_PREFIX: prefix } = environment
  if (storage === 'local') return { kind: 'local', path: required('BACKUP_PATH', path) }
  if (storage === 's3') {
    return {
      kind: 's3',
      bucket: required('BACKUP_S3_BUCKET', bucket),
      ...(region ? { region } : {}),
      // the scripts wrote it with slashes around
      ...(prefix ? { prefix: prefix.replace(/^\/+|\/+$/g, '') } : {}),
    }
  }
  throw new HoldfastError('invalid_config', `BACKUP_STORAGE=${storage} is not known`, { hint: 'Use local or s3.' })
}

function required(name: string, value: string | undefined): string {
  if (value) return value
  throw new HoldfastError('invalid_config', `${name} is missing`, { hint: `Set ${name}, or write a target into server.yaml.` })
}

const isOff = (value: string | undefined) => value !== undefined && /^(false|0|no|off|none)$/i.test(value)

/** Both are always on here: a script that turned one off is told so, not disobeyed in silence. */
function requireOn(name: string, value: string | undefined): void {
  if (!isOff(value)) return
  throw new HoldfastError('invalid_config', `${name}=${value} cannot be done: backups are always compressed and encrypted`, {
    hint: `Unset ${name}.`,
  })
}
