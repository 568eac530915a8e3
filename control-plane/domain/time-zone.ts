import { DateTime } from 'luxon'
import { z } from 'zod'

/** A time zone as schedules and windows name it. Aborts: what is written in a zone that is none must not be blamed for it. */
export const timeZone = z
  .string()
  .max(64)
  .refine((zone) => DateTime.fromMillis(0, { zone }).isValid, {
    abort: true,
    error: (issue) => `${JSON.stringify(issue.input)} is no time zone: write one such as Europe/Berlin`,
  })
