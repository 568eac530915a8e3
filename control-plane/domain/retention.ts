import { DateTime } from 'luxon'
import type { BackupType } from './job-spec.ts'
import type { Retention } from './policy.ts'
import { sharpFall } from './sharp-fall.ts'

/** Which backups of one source stay. Pure: a plan is a value that is shown, then carried out, and the same both times. */

export interface RetainedBackup {
  readonly id: string
  readonly createdAt: Date
  readonly type: BackupType
  /** `retired`: expired as a backup, there only as a base. */
  readonly status: 'running' | 'good' | 'retired'
  /** Judged good by the control plane or another agent, never by the host that made it, and not found damaged since. */
  readonly verified: boolean
  readonly pinned: boolean
  readonly leansOn: readonly string[]
  /** Chosen parts; empty: the whole. A backup of some parts never stands for one of others. */
  readonly parts: readonly string[]
  /** Bytes read from the source. */
  readonly sizeBytes: number | null
  /** Rows, files ... of the source. */
  readonly totalCount: number | null
}

export interface RetentionQuestion {
  readonly rule: Retention
  /** Days, weeks, months and years are those of this zone. */
  readonly timezone: string
  /** All of one source that are running, good or retired, in any order. */
  readonly backups: readonly RetainedBackup[]
  readonly now: Date
  /** An operator has seen and accepted what fell in size or counts up to then. */
  readonly fallAcceptedAt: Date | null
}

export interface Kept {
  readonly id: string
  /** duration, last, daily, weekly, monthly, yearly, min_verified, last_good, unverified, running, pinned, held, base */
  readonly reasons: readonly string[]
}

export interface RetentionPlan {
  readonly keep: readonly Kept[]
  /** In an order that can be carried out: what leans comes before what it leans on. */
  readonly remove: readonly { readonly id: string; readonly reason: string }[]
  /** Why nothing is removed although the rule would. */
  readonly held: readonly { readonly code: 'sharp_fall' | 'too_few_verified'; readonly message: string }[]
  /**
   * Kept for no other reason than that something leans on them: no backups any more, so that what they themselves lean on
   * becomes free. Without this a chain of incrementals would hold its first day for ever.
   */
  readonly retire: readonly string[]
}

export function planRetention(question: RetentionQuestion): RetentionPlan {
  const reasons = new Map<string, Set<string>>()
  const keep = (backup: RetainedBackup, reason: string): void => {
    const known = reasons.get(backup.id)
    if (known) known.add(reason)
    else reasons.set(backup.id, new Set([reason]))
  }
  const groups = Map.groupBy(question.backups, (backup) => JSON.stringify([...backup.parts].sort()))
  for (const group of groups.values()) keepOfGroup(group.toSorted(newestFirst), question, keep)
  const held = holdsOf(question)
  const wouldRemove = question.backups.filter((backup) => !reasons.has(backup.id) && backup.status !== 'retired')
  if (held.length > 0) for (const backup of wouldRemove) keep(backup, 'held')
  // over everything that stays, a base is kept while anything leans on it; not what the base itself leans on, since
  // a manifest names every backup of which a block is used
  const chosen = [...reasons.keys()]
  const byId = new Map(question.backups.map((backup) => [backup.id, backup]))
  for (const id of chosen) {
    for (const base of byId.get(id)?.leansOn ?? []) {
      const backup = byId.get(base)
      if (backup) keep(backup, 'base')
    }
  }
  return {
    keep: question.backups.toSorted(newestFirst).flatMap((backup) => {
      const why = reasons.get(backup.id)
      return why ? [{ id: backup.id, reasons: [...why].sort() }] : []
    }),
    remove: question.backups
      .filter((backup) => !reasons.has(backup.id))
      .toSorted(newestFirst)
      .map((backup) => ({
        id: backup.id,
        reason: backup.status === 'retired' ? 'nothing leans on it any more' : 'no rule keeps it any more',
      })),
    held: wouldRemove.length > 0 ? held : [],
    retire: [...reasons].flatMap(([id, why]) => (why.size === 1 && why.has('base') ? [id] : [])),
  }
}

type Keep = (backup: RetainedBackup, reason: string) => void

function keepOfGroup(newest: readonly RetainedBackup[], question: RetentionQuestion, keep: Keep): void {
  const { rule, now } = question
  const good = newest.filter((backup) => backup.status === 'good')
  const verified = good.filter((backup) => backup.verified)
  for (const backup of newest) {
    if (backup.status === 'running') keep(backup, 'running')
    if (backup.pinned) keep(backup, 'pinned')
  }
  if (good[0]) keep(good[0], 'last_good')
  if (verified[0]) keep(verified[0], 'last_good')
  // what has not been judged yet may turn out to be the better one
  for (const backup of good) {
    if (!verified[0]) keep(backup, 'unverified')
    else if (newestFirst(backup, verified[0]) < 0) keep(backup, 'unverified')
  }
  if (!Object.entries(rule).some(([key, value]) => key !== 'min_verified' && value !== undefined)) {
    for (const backup of good) keep(backup, 'no_rule')
  }
  const duration = rule.duration ?? 0
  for (const backup of good) {
    if (backup.createdAt.getTime() > now.getTime() - duration * 1000 && duration > 0) keep(backup, 'duration')
  }
  for (const backup of verified.slice(0, rule.last ?? 0)) keep(backup, 'last')
  for (const backup of verified.slice(0, rule.min_verified ?? 0)) keep(backup, 'min_verified')
  for (const period of PERIODS) {
    for (const backup of ofPeriods(verified, period, rule[period] ?? 0, question.timezone)) keep(backup, period)
  }
}

const PERIODS = ['daily', 'weekly', 'monthly', 'yearly'] as const

/**
 * One backup for each of the newest `count` periods that have one. Of a day the last; of a week, a month and a year the first:
 * that is Sunday's, the 1st's and New Year's where there is one, and where there is none the period is not left bare.
 */
function ofPeriods(
  newest: readonly RetainedBackup[],
  period: (typeof PERIODS)[number],
  count: number,
  timezone: string,
): RetainedBackup[] {
  const chosen = new Map<string, RetainedBackup>()
  for (const backup of newest) {
    const key = periodOf(backup.createdAt, period, timezone)
    if (!chosen.has(key)) {
      if (chosen.size === count) break
      chosen.set(key, backup)
    } else if (period !== 'daily') chosen.set(key, backup)
  }
  return [...chosen.values()]
}

function periodOf(time: Date, period: (typeof PERIODS)[number], timezone: string): string {
  const local = DateTime.fromJSDate(time, { zone: timezone })
  switch (period) {
    case 'daily':
      return local.toFormat('yyyy-MM-dd')
    case 'weekly':
      // luxon counts Monday 1 to Sunday 7: a week is named by the Sunday that begins it
      return local.minus({ days: local.weekday % 7 }).toFormat('yyyy-MM-dd')
    case 'monthly':
      return local.toFormat('yyyy-MM')
    case 'yearly':
      return local.toFormat('yyyy')
  }
}

function holdsOf(question: RetentionQuestion): RetentionPlan['held'][number][] {
  const held: RetentionPlan['held'][number][] = []
  const good = question.backups.filter((backup) => backup.status === 'good').toSorted(newestFirst)
  const verified = good.filter((backup) => backup.verified).length
  const wanted = question.rule.min_verified ?? 0
  if (verified < wanted) {
    held.push({
      code: 'too_few_verified',
      message: `${verified} of the ${wanted} verified backups that the policy asks for are there`,
    })
  }
  const fall = sharpFall(
    good.filter((backup) => backup.parts.length === 0),
    question.fallAcceptedAt,
  )
  if (fall) held.push({ code: 'sharp_fall', message: fall })
  return held
}

/** The id decides between two of one moment, so that every control plane plans the same. */
function newestFirst(a: RetainedBackup, b: RetainedBackup): number {
  return b.createdAt.getTime() - a.createdAt.getTime() || (a.id < b.id ? 1 : a.id > b.id ? -1 : 0)
}

/**
 * Of several policies that select one source: a backup goes only when each of them would let it go, and nothing goes while one
 * of them holds.
 */
export function mergePlans(plans: readonly RetentionPlan[]): RetentionPlan {
  const [first, ...others] = plans
  if (!first) return { keep: [], remove: [], held: [], retire: [] }
  const held = plans.flatMap((plan) => plan.held)
  const reasons = new Map<string, Set<string>>()
  for (const { id, reasons: why } of plans.flatMap((plan) => plan.keep)) {
    reasons.set(id, new Set([...(reasons.get(id) ?? []), ...why]))
  }
  const wanted = first.remove.filter(({ id }) => others.every((plan) => plan.remove.some((other) => other.id === id)))
  if (held.length > 0) for (const { id } of wanted) reasons.set(id, new Set(['held']))
  return {
    keep: [...reasons].map(([id, why]) => ({ id, reasons: [...why].sort() })),
    remove: held.length > 0 ? [] : wanted,
    held,
    retire: [...reasons].flatMap(([id, why]) => (why.size === 1 && why.has('base') ? [id] : [])),
  }
}
