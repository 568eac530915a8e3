import { HoldfastError } from '../../shared/errors.ts'
import type { Tree } from './environment.ts'

/** The environment of older backup scripts: BACKUP_STORAGE, BACKUP_PATH, BACKUP_S3_* become a target named `backup`. */

type Environment = Readonly<Record<string, string | undefined>>

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

/** Both are always on here: a script that turned one off is told so, not disobeyed in silence. */
function requireOn(name: string, value: string | undefined): void {
  if (!value || !/^(false|0|no|off|none)$/i.test(value)) return
  throw new HoldfastError('invalid_config', `${name}=${value} cannot be done: backups are always compressed and encrypted`, {
    hint: `Unset ${name}.`,
  })
}
