import { describe, expect, test } from 'vitest'
import { type BaseCandidate, chooseBase, chooseResend, LEAN_LIMIT } from './bases.ts'
import { planRetention, type RetainedBackup } from './retention.ts'

const DAY = 86_400_000
const day = (number: number) => new Date(Date.UTC(2026, 0, 1) + number * DAY)

function candidate(number: number, more: Partial<BaseCandidate> = {}): BaseCandidate {
  const whole = { state: 'good', parts: [], onTarget: true, unreadable: false, recipients: ['fleet', 'offline'] } as const
  return { id: `b${number}`, createdAt: day(number), type: number === 0 ? 'full' : 'incremental', leansOn: [], ...whole, ...more }
}
const choose = (
  type: 'full' | 'incremental' | 'differential',
  candidates: BaseCandidate[],
  more: { parts?: string[]; recipients?: string[]; withheldFrom?: string[] } = {},
) => chooseBase({ type, parts: [], recipients: ['fleet'], withheldFrom: [], candidates, ...more })

describe('the base', () => {
  const chain = [candidate(0), candidate(1, { leansOn: ['b0'] }), candidate(2, { leansOn: ['b0', 'b1'] })]

  test('of an incremental is the last good backup, of a differential the last full, and a full has none', () => {
    expect(choose('incremental', chain)).toEqual({
      type: 'incremental',
      baseId: 'b2',
      leanedOn: ['b2', 'b0', 'b1'],
      reason: null,
    })
    expect(choose('differential', chain)).toEqual({ type: 'differential', baseId: 'b0', leanedOn: ['b0'], reason: null })
    expect(choose('full', chain)).toEqual({ type: 'full', baseId: null, leanedOn: [], reason: null })
  })

  test.each<[string, BaseCandidate[], object, string]>([
    ['there is none', [], {}, 'no_good_backup'],
    ['all failed or were removed', [candidate(0, { state: 'gone' })], {}, 'no_good_backup'],
    ['it is on another target', [candidate(0, { onTarget: false })], {}, 'base_on_other_target'],
    [
      'something it leans on is on another target',
      [candidate(0, { onTarget: false }), candidate(1, { leansOn: ['b0'] })],
      {},
      'base_on_other_target',
    ],
    ['nothing can be looked up in it', [candidate(0, { unreadable: true })], {}, 'base_damaged'],
    ['something it leans on is gone', [candidate(1, { leansOn: ['b0'] })], {}, 'base_damaged'],
    ['a recipient cannot open it', [candidate(0)], { recipients: ['fleet', 'new'] }, 'base_recipients_differ'],
    [
      'a recipient cannot open what it leans on',
      [candidate(0, { recipients: ['old'] }), candidate(1, { leansOn: ['b0'] })],
      {},
      'base_recipients_differ',
    ],
    [
      'somebody from whom the run is withheld opens it',
      [candidate(0)],
      { recipients: ['offline'], withheldFrom: ['fleet'] },
      'base_recipients_differ',
    ],
    [
      'somebody from whom the run is withheld opens what it leans on',
      [candidate(0), candidate(1, { leansOn: ['b0'], recipients: ['offline'] })],
      { recipients: ['offline'], withheldFrom: ['fleet'] },
      'base_recipients_differ',
    ],
    ['only other parts were backed up', [candidate(0, { parts: ['public.t'] })], {}, 'no_good_backup'],
  ])('is refused, so that the run is a full and says why, when %s', (_, candidates, more, reason) => {
    expect(choose('incremental', candidates, more)).toEqual({ type: 'full', baseId: null, leanedOn: [], reason })
  })

  test('is one that the recipients alone open, where the fleet’s is left out', () => {
    const sealed = { recipients: ['offline'] }
    const chain = [candidate(0, sealed), candidate(1, { leansOn: ['b0'], ...sealed })]
    const run = { recipients: ['offline'], withheldFrom: ['fleet'] }
    expect(choose('incremental', chain, run)).toMatchObject({ type: 'incremental', leanedOn: ['b1', 'b0'], reason: null })
  })

  test('a differential without a full becomes one, and may lean on a retired one', () => {
    expect(choose('differential', [candidate(1)])).toMatchObject({ type: 'full', reason: 'no_full_backup' })
    const retired = [candidate(0, { state: 'retired' }), candidate(1, { type: 'differential', leansOn: ['b0'] })]
    expect(choose('differential', retired)).toMatchObject({ type: 'differential', baseId: 'b0' })
    expect(choose('incremental', [candidate(0, { state: 'retired' })])).toMatchObject({ reason: 'no_good_backup' })
  })
})

describe('sending again', () => {
  const bases = (count: number, retired: number[] = []) =>
    Array.from({ length: count }, (_, n) => ({ id: `b${n}`, createdAt: day(n), retired: retired.includes(n) })).toReversed()

  test('begins with the oldest once more than 14 backups are leaned on', () => {
    expect(chooseResend('incremental', bases(LEAN_LIMIT))).toEqual([])
    expect(chooseResend('incremental', bases(LEAN_LIMIT + 1)).slice(0, 2)).toEqual(['b0', 'b1'])
  })

  test('begins as well with a base that is kept only because it is leaned on', () => {
    expect(chooseResend('incremental', bases(3, [1]))).toEqual(['b1'])
  })

  test('is of incrementals alone', () => {
    expect(chooseResend('differential', bases(99))).toEqual([])
  })
})

/**
 * A source of 10,000 chunks through a year of daily incrementals: 1 % of it changes each day, and each run sends again what
 * `chooseResend` names, up to 5 %, as the agent's writer does. Retention runs every day.
 */
function simulateYear(retention: Parameters<typeof planRetention>[0]['rule'], resendPermille: number) {
  const CHUNKS = 10_000
  let seed = 1
  const random = () => {
    seed = (seed * 48_271) % 2_147_483_647
    return seed / 2_147_483_647
  }
  const origin = new Int32Array(CHUNKS)
  let backups: RetainedBackup[] = []
  const most = { leaned: 0, held: 0 }
  let removed = 0
  for (let n = 0; n < 366; n++) {
    const candidates = backups.map((one) =>
      candidate(Number(one.id.slice(1)), { leansOn: one.leansOn, state: one.status === 'good' ? 'good' : 'retired' }),
    )
    const choice = choose('incremental', candidates)
    expect(choice.type).toBe(n === 0 ? 'full' : 'incremental')
    const leaned = backups
      .filter((one) => choice.leanedOn.includes(one.id))
      .map((one) => ({ ...one, retired: one.status === 'retired' }))
    let budget = (CHUNKS * resendPermille) / 1000
    if (n > 0) for (let i = 0; i < CHUNKS / 100; i++) origin[Math.floor(random() * CHUNKS)] = n
    for (const id of chooseResend(choice.type, leaned)) {
      const old = Number(id.slice(1))
      for (let chunk = 0; chunk < CHUNKS && budget > 0; chunk++) {
        if (origin[chunk] !== old) continue
        origin[chunk] = n
        budget--
      }
    }
    const leansOn = [...new Set(origin)].filter((other) => other !== n).map((other) => `b${other}`)
    expect(leansOn.every((id) => choice.leanedOn.includes(id))).toBe(true)
    const facts = { verified: true, pinned: false, parts: [], sizeBytes: 1, totalCount: CHUNKS }
    backups.push({ id: `b${n}`, createdAt: day(n), type: choice.type, status: 'good', leansOn, ...facts })
    const plan = planRetention({ rule: retention, timezone: 'UTC', backups, now: day(n), fallAcceptedAt: null })
    const gone = new Set(plan.remove.map(({ id }) => id))
    removed += gone.size
    backups = backups
      .filter((one) => !gone.has(one.id))
      .map((one) => (plan.retire.includes(one.id) ? { ...one, status: 'retired', leansOn: [] } : one))
    if (n > 60) most.leaned = Math.max(most.leaned, leansOn.length)
    most.held = Math.max(most.held, backups.length)
  }
  return { ...most, removed, left: backups }
}

describe('a year of daily incrementals', () => {
  test('leans on fewer than 30 backups and frees old ones', () => {
    const year = simulateYear({ duration: 14 * 86_400 }, 50)
    expect(year.leaned).toBeLessThan(30)
    // the 14 that are kept, and what the oldest of them leans on
    expect(year.held).toBeLessThan(14 + 30)
    expect(year.removed).toBeGreaterThan(320)
    expect(year.left.some((one) => one.id === 'b0')).toBe(false)
  })

  test('leans on fewer than 30 also where retention keeps every one of them', () => {
    const year = simulateYear({ last: 1000 }, 50)
    expect(year.leaned).toBeLessThan(30)
    expect(year.removed).toBe(0)
  })

  test('without sending again leans on nearly all of them, which the rule is there for', () => {
    expect(simulateYear({ duration: 14 * 86_400 }, 0).leaned).toBeGreaterThan(150)
  })
})
