import { DateTime } from 'luxon'
import { z } from 'zod'
import { isHoldfastError } from '../../shared/errors.ts'
import { parseRate } from '../../shared/units.ts'
import { timeZone } from './time-zone.ts'

/**
 * What a policy allows the agents of its sources to take of their line and of their host. Pure: the time is always given. Rates and
 * priorities belong to an agent, not to a job: of all policies that select a source of an agent the strictest holds, for all its jobs
 * together, also for those that a person started.
 */

/**
 * The slowest that is taken, bytes a second: at less than this, objects that jobs send side by side would outlive the addresses that they are
 * sent to (15 minutes), and be sent again and again.
 */
const SLOWEST = 500_000

const UNLIMITED = 'unlimited'

/** `100MB/s`, or bytes a second as the kept form has it. */
const rate = z.union([z.string().max(40), z.number().int()]).transform((value, context): number => {
  const refuse = (message: string) => {
    context.addIssue({ code: 'custom', message })
    return z.NEVER
  }
  try {
    const bytes = typeof value === 'number' ? value : parseRate(value)
    if (bytes >= SLOWEST) return bytes
    return refuse('has to be at least 500KB/s: what is sent more slowly outlives the addresses that it is sent to')
  } catch (error) {
    if (!isHoldfastError(error)) throw error
    return refuse(`${error.message}: ${error.hint ?? ''}`)
  }
})

/** In a window a rate can also be taken off. Told apart first: a union would keep the reason of a refusal to itself. */
const windowRate = z.any().transform((value: unknown, context): number | typeof UNLIMITED => {
  if (value === UNLIMITED) return UNLIMITED
  const parsed = rate.safeParse(value)
  if (parsed.success) return parsed.data
  for (const { message } of parsed.error.issues) context.addIssue({ code: 'custom', message: `${message} Or say unlimited.` })
  return z.NEVER
})

const TIME_OF_DAY = /^(?:([01]\d|2[0-3]):([0-5]\d)|24:00)$/
const timeOfDay = z.string().regex(TIME_OF_DAY, 'write hours and minutes from 00:00 to 24:00, in quotes: "08:30"')

const DAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const

/** Beyond midnight when it ends before it begins: it then belongs to the day on which it began. */
const windowSchema = z
  .strictObject({
    from: timeOfDay,
    to: timeOfDay,
    days: z.array(z.enum(DAYS)).min(1).max(7).optional(),
    upload: windowRate.optional(),
    download: windowRate.optional(),
  })
  .refine(({ from, to }) => from !== to && from !== '24:00', {
    error: 'has to begin and end at different times, from 00:00 on; the whole day is from "00:00" to "24:00"',
  })
  .refine(({ upload, download }) => upload !== undefined || download !== undefined, {
    error: 'give a rate for upload or download, or the word unlimited',
  })

const PROCESSOR = ['lowest', 'low', 'normal'] as const
const DISK = ['idle', 'low', 'normal'] as const

export const limitsSchema = z
  .strictObject({
    /** Of this policy, over all agents. */
    parallel_jobs: z.number().int().min(1).max(10_000).optional(),
    upload: rate.optional(),
    download: rate.optional(),
    /** The first that is open takes the place of the rates that it names. */
    windows: z.array(windowSchema).min(1).max(50).optional(),
    timezone: timeZone.optional(),
    processor: z.enum(PROCESSOR).optional(),
    disk: z.enum(DISK).optional(),
  })
  .refine(({ windows, timezone }) => timezone === undefined || windows !== undefined, {
    path: ['timezone'],
    error: 'is for windows, of which there are none',
  })
export type Limits = z.output<typeof limitsSchema>

/** What holds for an agent at one moment. Null: as fast as it goes. */
export interface AgentLimits {
  readonly uploadBytesPerSecond: number | null
  readonly downloadBytesPerSecond: number | null
  readonly processor: (typeof PROCESSOR)[number]
  readonly disk: (typeof DISK)[number]
}

/** Where nothing is said, jobs yield to what else wants the processor; the disk they share as anyone. */
export function limitsAt(all: readonly Limits[], now: Date): AgentLimits {
  const lowest = (rates: readonly (number | null)[]): number | null => {
    const said = rates.filter((value) => value !== null)
    return said.length > 0 ? Math.min(...said) : null
  }
  return {
    uploadBytesPerSecond: lowest(all.map((limits) => rateAt(limits, 'upload', now))),
    downloadBytesPerSecond: lowest(all.map((limits) => rateAt(limits, 'download', now))),
    processor: PROCESSOR.find((level) => all.some(({ processor }) => processor === level)) ?? 'low',
    disk: DISK.find((level) => all.some(({ disk }) => disk === level)) ?? 'normal',
  }
}

function rateAt(limits: Limits, direction: 'upload' | 'download', now: Date): number | null {
  const local = DateTime.fromJSDate(now, { zone: limits.timezone ?? 'UTC' })
  const open = limits.windows?.find((window) => window[direction] !== undefined && isOpen(window, local))
  const said = open?.[direction] ?? limits[direction]
  return said === undefined || said === UNLIMITED ? null : said
}

/** By the wall clock of the time zone: a window that begins in an hour which daylight saving skips begins after it. */
function isOpen(window: z.output<typeof windowSchema>, local: DateTime): boolean {
  const [from, to, now] = [minutes(window.from), minutes(window.to), local.hour * 60 + local.minute]
  const on = (weekday: number) => window.days?.includes(DAYS[(weekday + 6) % 7] ?? 'mon') ?? true
  // luxon counts Monday 1 to Sunday 7
  const today = on(local.weekday)
  if (from < to) return today && now >= from && now < to
  return (today && now >= from) || (on(local.weekday - 1) && now < to)
}

function minutes(time: string): number {
  const [hours, rest] = time.split(':').map(Number)
  return (hours ?? 0) * 60 + (rest ?? 0)
}
