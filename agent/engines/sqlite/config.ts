import path from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Place } from '../engine.ts'

export const sqliteConfig = z.strictObject({
  /** The database file. */
  path: z
    .string()
    .max(4000)
    .refine((value) => path.isAbsolute(value) && !value.includes('\0'), 'has to be an absolute path')
    .transform((value) => path.resolve(value)),
  /** SQLite's own check during each backup: `full` also compares every index with its table. */
  integrity_check: z.enum(['off', 'quick', 'full']).default('quick'),
  /**
   * A database that is not in WAL mode is copied to the job's scratch folder up to this size, so that writers wait for
   * that copy alone. A larger one is read in place, and writers wait until its backup has ended.
   */
  copy_limit_mib: z.number().int().min(0).max(1_000_000).default(1024),
  /** How long another program's lock is waited for. */
  busy_timeout_ms: z.number().int().min(0).max(600_000).default(10_000),
})
export type SqliteConfig = z.infer<typeof sqliteConfig>

/** Files that SQLite keeps beside a database. One without its database, or with another, would corrupt it. */
export const SIDECARS = ['-wal', '-shm', '-journal'] as const
export const NEW_PREFIX = '.holdfast-new-'

/** Path of a place. Throws `invalid_name` for whatever is no file name beside the source's file. */
export function locate({ config, targetName }: Place<SqliteConfig>): string {
  if (targetName === null) return config.path
  const plain =
    targetName !== '' && targetName !== '.' && targetName !== '..' && !/[/\0]/.test(targetName) && targetName.isWellFormed()
  const ours = targetName.startsWith(NEW_PREFIX) || SIDECARS.some((suffix) => targetName.endsWith(suffix))
  if (plain && !ours && Buffer.byteLength(targetName) <= 240) return path.join(path.dirname(config.path), targetName)
  throw new HoldfastError('invalid_name', `target ${JSON.stringify(targetName.slice(0, 200))} is not allowed`, {
    hint: 'Give one file name of at most 240 bytes, without a slash, that does not end like a file that SQLite keeps beside a database.',
  })
}
