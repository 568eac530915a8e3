import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Retention } from './policy.ts'
import { mergePlans, planRetention, type RetainedBackup, type RetentionQuestion } from './retention.ts'

const DAY = 86_400_000
const at = (text: string) => new Date(text)

function backup(id: string, createdAt: Date, more: Partial<RetainedBackup> = {}): RetainedBackup {
  const facts = { sizeBytes: 1_000_000, totalCount: 1000 }
  return { id, createdAt, type: 'full', status: 'good', verified: true, pinned: false, leansOn: [], parts: [], ...facts, ...more }
}
/** One a day at 02:00, the last on the day of `last`; ids are dates. */
function daily(last: string, days: number, more: (index: number) => Partial<RetainedBackup> = () => ({})): RetainedBackup[] {
  return Array.from({ length: days }, (_, back) => {
    const createdAt = new Date(at(`${last}T02:00:00Z`).getTime() - back * DAY)
    return backup(createdAt.toISOString().slice(0, 10), createdAt, more(days - 1 - back))
  })
}
const plan = (rule: Retention, backups: readonly RetainedBackup[], more: Partial<RetentionQuestion> = {}) =>
  planRetention({ rule, backups, timezone: 'UTC', now: at('2026-11-21T12:00:00Z'), fallAcceptedAt: null, ...more })
const kept = (rule: Retention, backups: readonly RetainedBackup[], more: Partial<RetentionQuestion> = {}) =>
  plan(rule, backups, more)
    .keep.map(({ id }) => id)
    .toSorted()

describe('what is kept', () => {
  test('everything younger than the duration', () => {
    expect(kept({ duration: 3 * 86_400 }, daily('2026-11-21', 30))).toEqual(['2026-11-19', '2026-11-20', '2026-11-21'])
  })

  test('the last N', () => {
    expect(kept({ last: 2 }, daily('2026-11-21', 30))).toEqual(['2026-11-20', '2026-11-21'])
  })

  test('daily, weekly of Sunday, monthly of the 1st, yearly of New Year', () => {
    const rule = { daily: 2, weekly: 2, monthly: 3, yearly: 2 }
    expect(kept(rule, daily('2026-11-21', 800))).toEqual([
      '2025-01-01',
      '2026-01-01',
      '2026-09-01',
      '2026-10-01',
      '2026-11-01',
      // Sundays
      '2026-11-08',
      '2026-11-15',
      '2026-11-20',
      '2026-11-21',
    ])
  })

  test('a week without a Sunday backup keeps the first that it has', () => {
    const weekdays = daily('2026-11-21', 14).filter((one) => one.createdAt.getUTCDay() !== 0)
    expect(kept({ weekly: 2 }, weekdays)).toEqual(['2026-11-09', '2026-11-16', '2026-11-21'])
  })

  test("days are those of the policy's time zone", () => {
    const backups = [backup('late', at('2026-11-20T23:30:00Z')), backup('early', at('2026-11-21T00:30:00Z'))]
    expect(kept({ daily: 2 }, backups)).toEqual(['early', 'late'])
    expect(kept({ daily: 2 }, backups, { timezone: 'Europe/Berlin' })).toEqual(['early'])
  })

  test('never the last good one goes, however old, nor the last verified one', () => {
    expect(kept({ duration: 60 }, daily('2020-01-01', 3))).toEqual(['2020-01-01'])
    const backups = daily('2026-11-21', 4, (index) => ({ verified: index < 2 }))
    expect(kept({ last: 1 }, backups)).toEqual(['2026-11-19', '2026-11-20', '2026-11-21'])
  })

  test('only verified backups are counted', () => {
    const backups = daily('2026-11-21', 6, (index) => ({ verified: index % 2 === 1 }))
    expect(kept({ last: 2 }, backups)).toEqual(['2026-11-19', '2026-11-21'])
  })

  test('min_verified: nothing goes while fewer are known to be good', () => {
    const backups = daily('2026-11-21', 6, (index) => ({ verified: index === 4 }))
    const held = plan({ last: 1, min_verified: 2 }, backups)
    expect(held.remove).toEqual([])
    expect(held.held).toMatchObject([{ code: 'too_few_verified' }])
    expect(plan({ last: 1, min_verified: 1 }, backups).remove).toHaveLength(4)
  })

  test('pins win', () => {
    expect(
      kept(
        { last: 1 },
        daily('2026-11-21', 5, (index) => ({ pinned: index === 0 })),
      ),
    ).toEqual(['2026-11-17', '2026-11-21'])
  })

  test('a base is kept while anything that stays leans on it, and is named when that is the only reason', () => {
    const backups = daily('2026-11-21', 4, (index) =>
      index === 3
        ? { type: 'incremental', leansOn: ['2026-11-18', '2026-11-20'] }
        : { leansOn: index === 2 ? ['2026-11-19'] : [] },
    )
    const answer = plan({ last: 1 }, backups)
    expect(answer.keep).toEqual([
      { id: '2026-11-21', reasons: ['last', 'last_good'] },
      { id: '2026-11-20', reasons: ['base'] },
      { id: '2026-11-18', reasons: ['base'] },
    ])
    expect(answer.retire.toSorted()).toEqual(['2026-11-18', '2026-11-20'])
    // what only a retired base leans on is free
    expect(answer.remove.map(({ id }) => id)).toEqual(['2026-11-19'])
  })

  test('a retired base counts for nothing, and goes when nothing leans on it any more', () => {
    const bases = daily('2026-11-18', 2, () => ({ status: 'retired' }))
    const leaning = daily('2026-11-21', 2, () => ({ leansOn: ['2026-11-17'] }))
    const answer = plan({ last: 9 }, [...bases, ...leaning])
    expect(answer.remove).toEqual([{ id: '2026-11-18', reason: 'nothing leans on it any more' }])
    expect(answer.retire).toEqual(['2026-11-17'])
  })

  test('an unfinished backup is kept, and what it leans on', () => {
    const running = backup('running', at('2026-11-21T11:00:00Z'), { status: 'running', leansOn: ['2026-11-17'] })
    expect(kept({ last: 1 }, [running, ...daily('2026-11-21', 5)])).toEqual(['2026-11-17', '2026-11-21', 'running'])
  })

  test('a backup of some parts does not stand for the whole', () => {
    const part = backup('part', at('2026-11-21T11:00:00Z'), { parts: ['public.t'] })
    expect(kept({ last: 1 }, [part, ...daily('2026-11-21', 3)])).toEqual(['2026-11-21', 'part'])
  })

  test('a rule of nothing removes nothing', () => {
    expect(plan({}, daily('2026-11-21', 30)).remove).toEqual([])
  })

  test('what leans is removed before what it leans on', () => {
    const backups = daily('2026-11-21', 5, (index) => (index > 0 && index < 3 ? { leansOn: ['2026-11-17'] } : {}))
    expect(plan({ last: 1 }, backups).remove.map(({ id }) => id)).toEqual([
      '2026-11-20',
      '2026-11-19',
      '2026-11-18',
      '2026-11-17',
    ])
  })
})

describe('a sharp fall in size or counts holds removal and says so', () => {
  const fallen = daily('2026-11-21', 10, (index) => (index < 7 ? {} : { totalCount: 100 }))

  test('until it is accepted, then what comes after is the new normal', () => {
    const answer = plan({ last: 2 }, fallen)
    expect(answer.remove).toEqual([])
    expect(answer.held).toMatchObject([
      { code: 'sharp_fall', message: expect.stringContaining('100 items where an earlier one held 1000') },
    ])
    expect(plan({ last: 2 }, fallen, { fallAcceptedAt: at('2026-11-21T12:00:00Z') }).remove).toHaveLength(8)
    const again = [...fallen, backup('again', at('2026-11-22T02:00:00Z'), { totalCount: 10 })]
    expect(plan({ last: 2 }, again, { fallAcceptedAt: at('2026-11-21T12:00:00Z') }).held).toMatchObject([{ code: 'sharp_fall' }])
  })

  test('bytes are compared among fulls only', () => {
    const incrementals = daily('2026-11-21', 6, (index) =>
      index === 0 ? { sizeBytes: 9e9 } : { type: 'incremental', sizeBytes: 1e6 },
    )
    expect(plan({ last: 1 }, incrementals).held).toEqual([])
    expect(
      plan(
        { last: 1 },
        daily('2026-11-21', 6, (index) => ({ sizeBytes: index < 4 ? 9e9 : 1e6 })),
      ).held,
    ).toHaveLength(1)
  })

  test('everyday changes do not hold', () => {
    expect(
      plan(
        { last: 2 },
        daily('2026-11-21', 9, (index) => ({ totalCount: 1000 - index * 50 })),
      ).held,
    ).toEqual([])
    expect(
      plan(
        { last: 2 },
        daily('2026-11-21', 9, (index) => ({ totalCount: index < 5 ? 9 : 1 })),
      ).held,
    ).toEqual([])
  })
})

test('of several policies, a backup goes only when each lets it go, and nothing while one holds', () => {
  const backups = daily('2026-11-21', 6)
  const merged = mergePlans([plan({ last: 1 }, backups), plan({ last: 3 }, backups)])
  expect(merged.remove.map(({ id }) => id)).toEqual(['2026-11-18', '2026-11-17', '2026-11-16'])
  const some = daily('2026-11-21', 6, (index) => ({ verified: index > 3 }))
  const holding = plan({ last: 1, min_verified: 3 }, some)
  expect(mergePlans([plan({ last: 1 }, some), holding])).toMatchObject({ remove: [], held: [{ code: 'too_few_verified' }] })
})

const rules: fc.Arbitrary<Retention> = fc.record(
  Object.fromEntries(
    ['last', 'daily', 'weekly', 'monthly', 'yearly', 'min_verified'].map((key) => [key, fc.integer({ min: 0, max: 5 })]),
  ),
  { requiredKeys: [] },
)
const histories: fc.Arbitrary<RetainedBackup[]> = fc
  .array(
    fc.record({
      hours: fc.integer({ min: 1, max: 24 * 400 }),
      verified: fc.boolean(),
      pinned: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
      status: fc.constantFrom<RetainedBackup['status']>('good', 'good', 'good', 'good', 'good', 'running', 'retired'),
      leans: fc.array(fc.nat({ max: 30 }), { maxLength: 3 }),
      count: fc.integer({ min: 0, max: 2000 }),
    }),
    { maxLength: 30 },
  )
  .map((items) =>
    items.map((item, index) =>
      backup(`b${index}`, new Date(at('2026-11-21T12:00:00Z').getTime() - item.hours * 3_600_000), {
        status: item.status,
        verified: item.verified,
        pinned: item.pinned,
        totalCount: item.count,
        leansOn:
          item.status === 'retired' ? [] : [...new Set(item.leans.filter((lean) => lean < index).map((lean) => `b${lean}`))],
      }),
    ),
  )

describe('property, for any history and rule', () => {
  const forAll = (check: (backups: RetainedBackup[], answer: ReturnType<typeof plan>, rule: Retention) => void) =>
    fc.assert(
      fc.property(histories, rules, (backups, rule) => check(backups, plan(rule, backups), rule)),
      { numRuns: 400 },
    )
  const ids = (items: readonly { id: string }[]) => new Set(items.map(({ id }) => id))

  test('each backup is either kept or removed', () =>
    forAll((backups, { keep, remove }) => {
      expect(keep.length + remove.length).toBe(backups.length)
      expect(ids(keep).union(ids(remove)).size).toBe(backups.length)
    }))

  test('the last good one and the last verified one stay, and every pinned and unfinished one', () =>
    forAll((backups, { remove }) => {
      const gone = ids(remove)
      const newest = (some: RetainedBackup[]) =>
        some.filter((one) => one.status === 'good').toSorted((a, b) => b.createdAt.getTime() - a.createdAt.getTime())[0]
      const last = newest(backups)
      const verified = newest(backups.filter((one) => one.verified))
      if (last) expect(backups.some((one) => one.createdAt >= last.createdAt && !gone.has(one.id))).toBe(true)
      if (verified)
        expect(backups.some((one) => one.verified && one.createdAt >= verified.createdAt && !gone.has(one.id))).toBe(true)
      for (const one of backups) if (one.pinned || one.status === 'running') expect(gone.has(one.id)).toBe(false)
    }))

  test('nothing that stays as a backup leans on something that goes', () =>
    forAll((backups, { keep, remove, retire }) => {
      const gone = ids(remove)
      const stays = ids(keep).difference(new Set(retire))
      for (const one of backups) if (stays.has(one.id)) for (const base of one.leansOn) expect(gone.has(base)).toBe(false)
    }))

  test('a plan carried out is finished: the next one keeps the same', () =>
    forAll((backups, { keep, remove, retire }, rule) => {
      const gone = ids(remove)
      const left = backups
        .filter((one) => !gone.has(one.id))
        .map((one): RetainedBackup => (retire.includes(one.id) ? { ...one, status: 'retired', leansOn: [] } : one))
      expect(plan(rule, left).keep).toEqual(keep)
    }))

  test('while removal is held, nothing is removed', () =>
    forAll((backups, { held, remove }) => {
      const retired = new Set(backups.filter((one) => one.status === 'retired').map((one) => one.id))
      if (held.length > 0) expect(remove.filter(({ id }) => !retired.has(id))).toEqual([])
    }))
})
