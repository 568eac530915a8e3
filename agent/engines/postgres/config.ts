import path from 'node:path'
import { z } from 'zod'
import { Secret } from '../../../shared/secret.ts'
import { parseConnectionUrl } from './url.ts'

const absolutePath = z.string().max(4096).refine(path.isAbsolute, 'has to be an absolute path')
const part = z.string().min(1).max(1000)
const secret = z.union([z.instanceof(Secret<string>), z.string().max(4096)]).transform((value) => {
  return value instanceof Secret ? value : new Secret(value)
})

const workers = z.number().int().min(1).max(32)

/**
 * One database of one PostgreSQL server. `url` never holds a password: it stands in lists and logs; `url_file` may, and so may a `url` of
 * type Secret, which no file of settings can hold.
 */
export const postgresConfig = z
  .strictObject({
    url: z.union([z.string().max(8192), z.instanceof(Secret<string>)]).optional(),
    url_file: absolutePath.optional(),
    password: secret.optional(),
    password_file: absolutePath.optional(),
    /** In libpq's format; left out: ~/.pgpass of the agent's user, when it is there. */
    passfile: absolutePath.optional(),
    /** Folders that are searched for pg_dump and its kin before the usual ones. */
    tools: z.union([absolutePath.transform((folder) => [folder]), z.array(absolutePath).max(20)]).default([]),
    /** Tables read or written at the same time. */
    parallel: workers.optional(),
    /** The same, as older files spell it. */
    parallel_workers: workers.optional(),
    /** Tables larger than twice this are read in ranges of about this size, so that one large table is read in parallel too. */
    range_bytes: z
      .number()
      .int()
      .min(1024 * 1024)
      .default(1024 ** 3),
    /** Schemas ("sales") and tables ("sales.orders") whose rows are backed up; empty: all. Definitions always are. */
    include: z.array(part).max(10_000).default([]),
    /** Schemas and tables whose rows are left out. */
    exclude: z.array(part).max(10_000).default([]),
    /** Where databases are made, renamed and dropped from; never restored into while it is used for that. */
    maintenance_database: z.string().min(1).max(63).default('postgres'),
    /** Owners and grantees that a restore needs and the server lacks: made without login, or left out. */
    missing_roles: z.enum(['create', 'leave-out']).default('create'),
  })
  .superRefine((config, context) => {
    if ((config.url === undefined) === (config.url_file === undefined)) {
      context.addIssue({ code: 'custom', path: ['url'], message: 'give either url or url_file' })
    }
    if (config.parallel !== undefined && config.parallel_workers !== undefined) {
      const message = 'is the older spelling of parallel, which is here too: keep one of the two'
      context.addIssue({ code: 'custom', path: ['parallel_workers'], message })
    }
    if (config.url === undefined) return
    try {
      const secret = config.url instanceof Secret
      const { password } = parseConnectionUrl(config.url instanceof Secret ? config.url.reveal() : config.url)
      if (password !== undefined && !secret) {
        context.addIssue({ code: 'custom', path: ['url'], message: 'a password does not belong here: use url_file (--url-file)' })
      }
    } catch (error) {
      context.addIssue({ code: 'custom', path: ['url'], message: error instanceof Error ? error.message : String(error) })
    }
  })
  .transform(({ parallel, parallel_workers: older, ...config }) => ({ ...config, parallel: parallel ?? older ?? 2 }))

export type PostgresConfig = z.infer<typeof postgresConfig>
