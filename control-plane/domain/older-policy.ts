import { z } from 'zod'
import { policySchema, retentionSchema } from './policy.ts'

/** `retention_policy` of older files: four counts, which mean what those of `retention` mean. */
const olderRetention = retentionSchema.pick({ daily: true, weekly: true, monthly: true, yearly: true })

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/**
 * A policy as fleet.yaml writes it, in the spelling of today or of older files; what comes out, is compared and is kept, is today's alone. An older
 * spelling of what a policy does not decide is refused, and never taken in silence.
 */
export const writtenPolicy = z.unknown().transform((value, context): z.output<typeof policySchema> => {
  const problems: z.core.$ZodRawIssue[] = []
  const refuse = (key: string, message: string) => problems.push({ code: 'custom', path: [key], message, input: value })
  let policy = value
  if (isObject(value)) {
    const { retention_policy: counts, parallel_workers: workers, ...rest } = value
    policy = rest
    if (workers !== undefined) refuse('parallel_workers', WORKERS)
    if (counts !== undefined && rest.retention !== undefined) {
      refuse('retention_policy', 'is the older spelling of retention, which is here too: keep one of the two')
    } else if (counts !== undefined) {
      const parsed = olderRetention.safeParse(counts)
      policy = { ...rest, retention: parsed.data }
      for (const issue of parsed.error?.issues ?? []) problems.push(raw(issue, ['retention_policy', ...issue.path]))
    }
  }
  const parsed = policySchema.safeParse(policy)
  for (const issue of parsed.error?.issues ?? []) problems.push(raw(issue, issue.path))
  for (const problem of problems) context.addIssue(problem)
  return parsed.success && problems.length === 0 ? parsed.data : z.NEVER
})

const WORKERS =
  'is nothing that a policy says: how many tables of a postgres source are read at the same time is its setting parallel, in agent.yaml on its host; ' +
  'how many jobs of a policy run at the same time is limits.parallel_jobs'

const raw = (issue: z.core.$ZodIssue, path: PropertyKey[]): z.core.$ZodRawIssue => ({ ...issue, path, input: undefined })
