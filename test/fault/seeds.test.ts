import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { FAULTS, type FaultKind, scheduleOf, seedsOf } from './schedule.ts'
import { type StepResult, World } from './world.ts'

/**
 * Seeded schedules of operations and faults. After each: every job has ended, within its limit; what is good restores as it was; what failed
 * says why; nothing else counts as a backup; nothing runs. `npm run test:faults -- test/fault/seeds --seeds 17` runs one again.
 */

const RANGE = process.env.HOLDFAST_TEST_SEEDS ?? '1..12'
const results: StepResult[] = []
let seedsRun = 0
let world: World | null

beforeAll(async () => {
  world = await World.start()
})

afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  if (results.length > 0) console.log(summary())
})

describe(`seeds ${RANGE}`, () => {
  it.each(seedsOf(RANGE))('seed %i', { timeout: 240_000 }, async (seed) => {
    if (!world) return
    const schedule = scheduleOf(seed)
    const made = await world.run(schedule).catch((error: unknown) => {
      throw new Error(`seed ${seed}, ${JSON.stringify(schedule.steps)}`, { cause: error })
    })
    results.push(...made)
    seedsRun += 1
  })
})

it('a seed draws the same schedule each time, and the seeds meet every fault', () => {
  expect(scheduleOf(17)).toEqual(scheduleOf(17))
  const met = new Set<FaultKind>(seedsOf('1..60').flatMap((seed) => scheduleOf(seed).steps.map(({ fault }) => fault)))
  expect([...met].sort()).toEqual([...FAULTS].sort())
})

function summary(): string {
  const lines = FAULTS.map((fault) => {
    const of = results.filter(({ step }) => step.fault === fault)
    const count = (status: string) => of.filter(({ job }) => job.status === status).length
    const again = of.filter(({ job }) => job.attempt > 1).length
    const slowest = Math.max(0, ...of.map(({ seconds }) => seconds)).toFixed(1)
    const ends = `${count('succeeded')} good, ${count('failed')} failed, ${count('cancelled')} cancelled`
    const codes = [...new Set(of.flatMap(({ job }) => (job.status === 'failed' ? [job.error?.code] : [])))].join(', ')
    return `  ${fault}: ${of.length} operations, ${ends}, ${again} tried again, slowest ${slowest} s${codes && `; failed with ${codes}`}`
  })
  return [`${seedsRun} seeds (${RANGE}) kept every rule`, ...lines].join('\n')
}
