import { createHash } from 'node:crypto'
import { CronExpressionParser } from 'cron-parser'
import { HoldfastError } from '../../shared/errors.ts'
import type { BackupType } from './job-spec.ts'

/** When backups are due. Pure: the time is always given. */

export interface Schedule {
  /** Five-field cron expressions, by type. */
  readonly full?: string
  readonly incremental?: string
  readonly differential?: string
  /** IANA name; the expressions are meant in it. */
  readonly timezone: string
  /** Seconds after the due time in which a run may still start; absent: any time until the next one. */
  readonly window?: number
  /** Seconds over which the sources of a policy are spread. */
  readonly jitter?: number
}

export interface Due {
  readonly type: BackupType
  readonly dueAt: Date
}

/** The larger first: of two due at one time, or missed together, one run of the first does for both. */
const TYPES = ['full', 'differential', 'incremental'] as const

const NAMES = /\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat)\b/gi

/** Throws `invalid_config`. Seconds, "@daily" and Jenkins' "H", which is random, are refused. */
export function checkCron(expression: string, timezone: string): void {
  const fields = expression.trim().split(/\s+/)
  const plain = fields.length === 5 && fields.every((field) => /^[0-9*,/-]+$/.test(field.replace(NAMES, '1')))
  try {
    if (plain) return void parse(expression, timezone, new Date(0)).next()
  } catch {
    // out of range, never due, unknown time zone: all refused below
  }
  throw new HoldfastError('invalid_config', `schedule ${JSON.stringify(expression)} in ${timezone} is not understood`, {
    hint: 'Write minute, hour, day of month, month and day of week, for example "0 2 * * 1-6", and a time zone such as Europe/Berlin.',
  })
}

const parse = (expression: string, timezone: string, after: Date) =>
  CronExpressionParser.parse(expression, { tz: timezone, currentDate: after })

/**
 * Due times after `after` and up to `until`, in order, at most `limit`. A time that daylight saving skips is due when the clock
 * has jumped, one that comes twice is due once: cron-parser's `next` does so, its `prev` does not (5.10), so this only goes forward.
 */
export function occurrencesBetween(schedule: Schedule, after: Date, until: Date, limit = 10_000): Due[] {
  const byTime = new Map<number, BackupType>()
  for (const type of TYPES) {
    const expression = schedule[type]
    if (expression === undefined) continue
    const times = parse(expression, schedule.timezone, after)
    for (let count = 0; count < limit; count++) {
      const time = times.next().toDate().getTime()
      if (time > until.getTime()) break
      if (!byTime.has(time)) byTime.set(time, type)
    }
  }
  const all = [...byTime].map(([time, type]) => ({ type, dueAt: new Date(time) }))
  return all.sort((a, b) => a.dueAt.getTime() - b.dueAt.getTime()).slice(0, limit)
}

/** The next due time, or null for a schedule without expressions. */
export function nextOccurrence(schedule: Schedule, after: Date): Due | null {
  const next = TYPES.flatMap((type) => {
    const expression = schedule[type]
    return expression === undefined ? [] : [{ type, dueAt: parse(expression, schedule.timezone, after).next().toDate() }]
  })
  return next.sort((a, b) => a.dueAt.getTime() - b.dueAt.getTime())[0] ?? null
}

/** Milliseconds after the due time, the same on every control plane and at every asking. */
export function jitterMs(schedule: Schedule, sourceId: string, dueAt: Date): number {
  if (!schedule.jitter) return 0
  const hash = createHash('sha256').update(`${sourceId}\0${dueAt.toISOString()}`).digest()
  return Math.floor((hash.readUInt32BE(0) / 2 ** 32) * schedule.jitter * 1000)
}

export interface Decision {
  /** To be started now. */
  readonly fire: Due | null
  /** Earlier ones that the one to be started stands for. */
  readonly missed: readonly Due[]
  /** Too late for their window. */
  readonly outside: readonly Due[]
}

/**
 * What to do about one source, given the time up to which all is decided already: the last occurrence that was, or when the schedule
 * or the source came to be. However many were missed, one run catches them up, at the latest one's time; it is of the largest
 * missed type, so that a full that was slept through is not put off to next week.
 */
export function dueNow(schedule: Schedule, sourceId: string, decidedUpTo: Date, now: Date): Decision {
  const due = lastOccurrences(schedule, decidedUpTo, now)
  const windowEnd = (one: Due) =>
    schedule.window === undefined ? Number.POSITIVE_INFINITY : one.dueAt.getTime() + schedule.window * 1000
  const outside = due.filter((one) => windowEnd(one) < now.getTime())
  const open = due.filter((one) => windowEnd(one) >= now.getTime())
  const ready = (one: Due) => one.dueAt.getTime() + jitterMs(schedule, sourceId, one.dueAt) <= now.getTime()
  // later ones whose jitter is not over stay to be decided
  const latest = open.findLastIndex(ready)
  const covered = open.slice(0, latest + 1)
  const last = covered.at(-1)
  if (!last) return { fire: null, missed: [], outside }
  const type = TYPES.find((candidate) => covered.some((one) => one.type === candidate)) ?? last.type
  return { fire: { type, dueAt: last.dueAt }, missed: covered.slice(0, -1), outside }
}

/** Looking back in growing steps: a minute-by-minute schedule and a year of sleep would otherwise be half a million times. */
function lastOccurrences(schedule: Schedule, after: Date, now: Date): Due[] {
  for (const days of [1, 8, 32, 400]) {
    const from = now.getTime() - days * 86_400_000
    if (from <= after.getTime()) break
    const found = occurrencesBetween(schedule, new Date(from), now)
    if (found.length > 1) return found
  }
  return occurrencesBetween(schedule, after, now)
}
