import { z } from 'zod'
import { BACKUP_ID, JOB_ID, NAME } from '../../../shared/ids.ts'

/** Shapes that several routes share. Names are snake_case, times RFC 3339 in UTC, sizes bytes, durations seconds. */

export const time = z.iso.datetime().describe('RFC 3339, in UTC')
export const bytes = z.number().int().nonnegative()
export const name = z.string().regex(NAME)
export const backupId = z.string().regex(BACKUP_ID)
export const jobId = z.string().regex(JOB_ID)
export const idPart = z
  .string()
  .regex(/^[0-9A-Za-z-]{1,27}$/)
  .describe('beginning or ending of an id')
const NAME_RULE = 'each of a-z, 0-9, dot, underscore and hyphen'
export const sourceName = z
  .string()
  .max(127)
  .regex(/^[a-z0-9][a-z0-9._-]{0,62}\/[a-z0-9][a-z0-9._-]{0,62}$/, `has to be host/name, ${NAME_RULE}`)
  .describe('host/name')
/** Where a restore goes: a host alone stands for the source's name there. */
export const restoreTarget = z
  .string()
  .max(127)
  .regex(/^[a-z0-9][a-z0-9._-]{0,62}(\/[a-z0-9][a-z0-9._-]{0,62})?$/, `has to be host or host/name, ${NAME_RULE}`)
  .describe("host/name to restore into, or a host: the backup's own source name there; left out: the place it came from")
/** A source, or a pattern in which `*` stands for any run of characters but "/". */
export const sourcePattern = z
  .string()
  .max(127)
  .regex(/^[a-z0-9._*-]{1,63}\/[a-z0-9._*-]{1,63}$/)
  .describe('host/name, where * stands for any run of characters')
/** What PostgreSQL, a terminal and a log line can all hold: no control characters. */
export const line = (max: number) =>
  z
    .string()
    .max(max)
    .regex(/^[^\u0000-\u001f\u007f]*$/, 'control characters are not allowed')
/** A part of a source as `show` names it: `schema.table`, a path, a collection. Names out of databases may hold anything but NUL. */
export const part = z
  .string()
  .min(1)
  .max(1000)
  .regex(/^[^\u0000]*$/, 'NUL is not allowed')

export const MAX_LIMIT = 500
export const pageQuery = {
  limit: z.coerce.number().int().min(1).max(MAX_LIMIT).default(50),
  cursor: z
    .string()
    .max(500)
    .regex(/^[A-Za-z0-9_-]+$/)
    .optional()
    .describe('`next_cursor` of the page before'),
}

export const page = <Item extends z.ZodType>(item: Item) => z.object({ items: z.array(item), next_cursor: z.string().nullable() })

/** `cursor` is `next_cursor` of the page before, made and checked by whoever answers the list. */
export interface PageRequest {
  readonly limit: number
  readonly cursor?: string | undefined
}
export interface Page<Item> {
  readonly items: Item[]
  readonly next_cursor: string | null
}

export const findingView = z
  .object({
    code: z.string(),
    severity: z.enum(['info', 'warning', 'error']),
    /** What it is about: an agent, a source, a target. */
    subject: z.string().optional(),
    message: z.string(),
    hint: z.string().optional(),
  })
  .meta({ id: 'Finding' })
export type FindingView = z.infer<typeof findingView>

/** RFC 9457. */
export const problemView = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    detail: z.string(),
    code: z.string(),
    hint: z.string().optional(),
    retry: z.boolean(),
    instance: z.string().optional(),
  })
  .meta({ id: 'Problem' })
export type ProblemView = z.infer<typeof problemView>
