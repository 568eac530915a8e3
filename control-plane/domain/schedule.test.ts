import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { checkCron, dueNow, jitterMs, nextOccurrence, occurrencesBetween, type Schedule } from './schedule.ts'

const at = (text: string) => new Date(text)
const weekly: Schedule = { full: '0 2 * * 0', incremental: '0 2 * * 1-6', timezone: 'Europe/Berlin' }
const times = (schedule: Schedule, after: string, until: string) =>
  occurrencesBetween(schedule, at(after), at(until)).map((due) => `${due.type} ${due.dueAt.toISOString()}`)

describe('occurrences', () => {
  test("are in the schedule's time zone", () => {
    expect(times(weekly, '2026-11-20T12:00:00Z', '2026-11-23T12:00:00Z')).toEqual([
      'incremental 2026-11-21T01:00:00.000Z',
      'full 2026-11-22T01:00:00.000Z',
      'incremental 2026-11-23T01:00:00.000Z',
    ])
  })

  test('a time that daylight saving skips is due once, when the clock has jumped', () => {
    const schedule = { incremental: '30 2 * * *', timezone: 'Europe/Berlin' }
    expect(times(schedule, '2026-03-28T12:00:00Z', '2026-03-30T12:00:00Z')).toEqual([
      'incremental 2026-03-29T01:30:00.000Z',
      'incremental 2026-03-30T00:30:00.000Z',
    ])
  })

  test('a time that daylight saving repeats is due once', () => {
    const schedule = { incremental: '30 2 * * *', timezone: 'Europe/Berlin' }
    expect(times(schedule, '2026-10-24T12:00:00Z', '2026-10-26T12:00:00Z')).toEqual([
      'incremental 2026-10-25T00:30:00.000Z',
      'incremental 2026-10-26T01:30:00.000Z',
    ])
  })

  test('of two types at one time, the larger is due', () => {
    const both = { full: '0 2 * * 0', incremental: '0 2 * * *', timezone: 'UTC' }
    expect(times(both, '2026-11-21T12:00:00Z', '2026-11-22T12:00:00Z')).toEqual(['full 2026-11-22T02:00:00.000Z'])
    expect(nextOccurrence(both, at('2026-11-21T12:00:00Z'))).toEqual({ type: 'full', dueAt: at('2026-11-22T02:00:00Z') })
  })

  test.each(['', '* * * *', '0 0 2 * * *', '@daily', 'H 2 * * *', '61 2 * * *', '0 2 31 2 *', '0 2 * * 0 2027', '0 2 * * L'])(
    'expression %j is refused',
    (expression) => expect(() => checkCron(expression, 'UTC')).toThrow(expect.objectContaining({ code: 'invalid_config' })),
  )
  test('an unknown time zone is refused, names of days are not', () => {
    expect(() => checkCron('0 2 * * *', 'Europe/Nowhere')).toThrow(expect.objectContaining({ code: 'invalid_config' }))
    checkCron('*/15 2-4 * jan,jul MON-FRI', 'Europe/Berlin')
  })
})

describe('what is due now', () => {
  const daily: Schedule = { incremental: '0 2 * * *', timezone: 'UTC' }

  test('nothing before the due time, one run at it, nothing after it was decided', () => {
    const since = at('2026-11-20T02:00:00Z')
    expect(dueNow(daily, 's', since, at('2026-11-21T01:59:59Z')).fire).toBeNull()
    const due = dueNow(daily, 's', since, at('2026-11-21T02:00:00Z')).fire
    expect(due).toEqual({ type: 'incremental', dueAt: at('2026-11-21T02:00:00Z') })
    expect(dueNow(daily, 's', due?.dueAt ?? since, at('2026-11-21T02:00:01Z')).fire).toBeNull()
  })

  test('missed runs are caught up once, by the largest type that was missed', () => {
    const decision = dueNow(weekly, 's', at('2026-11-20T01:00:00Z'), at('2026-11-24T12:00:00Z'))
    expect(decision.fire).toEqual({ type: 'full', dueAt: at('2026-11-24T01:00:00Z') })
    expect(decision.missed).toHaveLength(3)
    expect(dueNow(weekly, 's', at('2026-11-24T01:00:00Z'), at('2026-11-24T12:00:00Z')).fire).toBeNull()
  })

  test('a run that can no longer start within its window is skipped and said so', () => {
    const windowed = { ...daily, window: 3600 }
    const since = at('2026-11-20T02:00:00Z')
    expect(dueNow(windowed, 's', since, at('2026-11-21T03:00:00Z')).fire).not.toBeNull()
    const late = dueNow(windowed, 's', since, at('2026-11-21T03:00:01Z'))
    expect(late.fire).toBeNull()
    expect(late.outside).toEqual([{ type: 'incremental', dueAt: at('2026-11-21T02:00:00Z') }])
  })

  test('jitter spreads sources within its bounds and is the same at every asking', () => {
    const spread = { ...daily, jitter: 600 }
    const dueAt = at('2026-11-21T02:00:00Z')
    const waits = Array.from({ length: 200 }, (_, i) => jitterMs(spread, `s${i}`, dueAt))
    expect(waits).toEqual(Array.from({ length: 200 }, (_, i) => jitterMs(spread, `s${i}`, dueAt)))
    expect(Math.min(...waits)).toBeLessThan(60_000)
    expect(Math.max(...waits)).toBeGreaterThan(540_000)
    expect(Math.max(...waits)).toBeLessThan(600_000)
    const wait = waits[3] ?? 0
    const since = at('2026-11-20T02:00:00Z')
    expect(dueNow(spread, 's3', since, new Date(dueAt.getTime() + wait - 1)).fire).toBeNull()
    expect(dueNow(spread, 's3', since, new Date(dueAt.getTime() + wait)).fire).toEqual({ type: 'incremental', dueAt })
  })

  test('a year of sleep under a schedule of every minute is decided at once', () => {
    const minutely = { incremental: '* * * * *', timezone: 'UTC' }
    const decision = dueNow(minutely, 's', at('2025-11-21T00:00:00Z'), at('2026-11-21T00:00:30Z'))
    expect(decision.fire?.dueAt).toEqual(at('2026-11-21T00:00:00Z'))
  })

  test('property: whatever the moments of asking, no due time fires twice, and the last one before the end is covered', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 60 * 50 }), { minLength: 1, maxLength: 40 }),
        fc.constantFrom('0 2 * * *', '30 2 * * *', '0 * * * *', '15 3 1 * *'),
        (steps, incremental) => {
          const schedule: Schedule = { incremental, timezone: 'Europe/Berlin', jitter: 300 }
          let now = at('2026-10-20T00:00:00Z')
          let decided = now
          const fired: number[] = []
          for (const minutes of steps) {
            now = new Date(now.getTime() + minutes * 60_000)
            const { fire } = dueNow(schedule, 's', decided, now)
            if (!fire) continue
            expect(fire.dueAt.getTime()).toBeGreaterThan(decided.getTime())
            decided = fire.dueAt
            fired.push(fire.dueAt.getTime())
          }
          expect(new Set(fired).size).toBe(fired.length)
          const due = occurrencesBetween(schedule, decided, new Date(now.getTime() - 300_000))
          expect(due).toEqual([])
        },
      ),
      { numRuns: 60 },
    )
  })
})
