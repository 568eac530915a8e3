import { z } from 'zod'
import { isHoldfastError } from '../../shared/errors.ts'
import { NAME } from '../../shared/ids.ts'
import { parseDuration } from '../../shared/units.ts'
import { chunksSchema } from './chunks.ts'
import { limitsSchema } from './limits.ts'
import { RECIPIENT_CHOICES } from './recipients.ts'
import { checkCron } from './schedule.ts'
import { selects } from './source-pattern.ts'
import { timeZone } from './time-zone.ts'

/**
 * A policy as fleet.yaml says it, and as it is kept: units resolved to seconds. Unknown keys are refused, and so is every key
 * whose promise this version does not keep.
 */

const name = z.string().regex(NAME, 'use 1 to 63 characters of a-z, 0-9, dot, underscore and hyphen')

/** `4h`, `30d`, or a number of seconds as the kept form has it. */
const duration = z.union([z.string().max(40), z.number().int().nonnegative()]).transform((value, context) => {
  if (typeof value === 'number') return value
  try {
    return parseDuration(value)
  } catch (error) {
    if (!isHoldfastError(error)) throw error
    context.addIssue({ code: 'custom', message: `${error.message}: ${error.hint ?? ''}` })
    return z.NEVER
  }
})

const count = z.number().int().min(0).max(100_000)

export const selectSchema = z.strictObject({
  engine: z
    .array(z.string().regex(/^[a-z][a-z0-9-]{0,31}$/))
    .max(100)
    .optional(),
  labels: z.record(z.string().max(200), z.string().max(1000)).optional(),
  /** host/name, where * stands for any run of characters but "/". */
  sources: z
    .array(
      z
        .string()
        .max(127)
        .regex(/^[a-z0-9._*-]{1,63}\/[a-z0-9._*-]{1,63}$/),
    )
    .max(10_000)
    .optional(),
})

const cron = z.string().max(200)
export const scheduleSchema = z
  .strictObject({
    full: cron.optional(),
    incremental: cron.optional(),
    differential: cron.optional(),
    timezone: timeZone.default('UTC'),
    window: duration.optional(),
    jitter: duration.optional(),
  })
  .superRefine((schedule, context) => {
    for (const type of ['full', 'incremental', 'differential'] as const) {
      const expression = schedule[type]
      if (expression === undefined) continue
      try {
        checkCron(expression, schedule.timezone)
      } catch (error) {
        if (!isHoldfastError(error)) throw error
        context.addIssue({ code: 'custom', path: [type], message: `${error.message}: ${error.hint ?? ''}` })
      }
    }
    if (!schedule.full && !schedule.incremental && !schedule.differential) {
      context.addIssue({ code: 'custom', message: 'give a time for full, incremental or differential' })
    }
    if (schedule.window !== undefined && (schedule.jitter ?? 0) >= schedule.window) {
      context.addIssue({ code: 'custom', path: ['jitter'], message: 'has to be shorter than the window' })
    }
  })

export const retentionSchema = z.strictObject({
  /** Everything younger is kept. */
  duration: duration.optional(),
  /** The newest so many are kept. */
  last: count.optional(),
  daily: count.optional(),
  weekly: count.optional(),
  monthly: count.optional(),
  yearly: count.optional(),
  /** Nothing is removed while fewer than this are known to be good. */
  min_verified: count.optional(),
})
export type Retention = z.infer<typeof retentionSchema>

export const policySchema = z.strictObject({
  select: selectSchema.default({}),
  schedule: scheduleSchema.optional(),
  /** One: copies on further targets are not made by this version. */
  targets: z.tuple([name], { error: 'name one target: this version makes no copies on further ones' }),
  /** `recovery`: sealed to the recovery recipients alone. The strictest policy that selects a source decides for all its backups. */
  recipients: z.enum(RECIPIENT_CHOICES).default('all'),
  retention: retentionSchema.optional(),
  verify: z.strictObject({ validate: z.literal('always').default('always') }).optional(),
  limits: limitsSchema.optional(),
  /** Also for backups by hand; as the engine has it unless said. */
  chunks: chunksSchema.optional(),
})
/** With units resolved; parsing it again gives the same. */
export type Policy = z.output<typeof policySchema>

/** Every condition has to hold; a policy without any selects every source. */
export function selectsSource(
  select: Policy['select'],
  source: { host: string; name: string; engine: string; labels: Readonly<Record<string, string>> },
): boolean {
  if (select.engine && !select.engine.includes(source.engine)) return false
  if (select.sources && !(select.sources.length > 0 && selects(select.sources, `${source.host}/${source.name}`))) return false
  return Object.entries(select.labels ?? {}).every(
    ([key, value]) => Object.hasOwn(source.labels, key) && source.labels[key] === value,
  )
}
