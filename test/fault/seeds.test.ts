import { afterAll, describe, expect, it } from 'vitest'
import { say } from '../harness/say.ts'
import { seedsOf } from '../harness/seeded.ts'
import { FAULTS, type FaultKind, SOURCES, scheduleOf } from './schedule.ts'
import { type Rivalry, runSeed, type StepResult } from './seed-run.ts'
import { World } from './world.ts'

/**
 * Seeded schedules of operations and faults. After each: every job has ended, within its limit; what is good restores as it was; what failed
 * says why; nothing else counts as a backup; no two restores wrote one place; nothing runs. `npm run test:faults -- --seeds 17` runs one again.
 */

/** Those of every test run. */
const FIXED = '1..60'
const RANGE = process.env.HOLDFAST_TEST_SEEDS ?? FIXED
const results: StepResult[] = []
const rivalries: Rivalry[] = []
const begin = performance.now()
let kept = 0
let restoresSeen = 0
let databasesSeen = 0
let beyond: FaultKind[] = []
let world: World | null = null
/** Then a new world: lists and stores stay as short as they are for the first seed. */
const SEEDS_OF_A_WORLD = 100
let seedsOfThis = 0

/** A seed that failed may have left anything behind: the next one begins in a world of its own. */
async function leave(): Promise<void> {
  restoresSeen += world?.watch.seen ?? 0
  databasesSeen += world?.databases?.seen ?? 0
  await world?.[Symbol.asyncDispose]()
  world = null
}

describe(`seeds ${RANGE}`, () => {
  // what hangs is ended by the limits of each operation: a seed that is stopped from outside would go on beside the next
  it.for(seedsOf(RANGE))('seed %i', { timeout: 600_000 }, async (seed, { skip }) => {
    if (seedsOfThis++ % SEEDS_OF_A_WORLD === 0) await leave()
    world ??= await World.start()
    if (!world) return skip('the S3 server cannot be had on this machine, or it has no /proc')
    beyond = world.beyond
    const schedule = scheduleOf(seed)
    try {
      const { steps, rivals } = await runSeed(world, schedule)
      results.push(...steps)
      if (rivals) rivalries.push(rivals)
    } catch (cause) {
      await leave()
      const what = `seed ${seed} (${schedule.source}: ${JSON.stringify([...schedule.steps, { rivals: schedule.rivals }])})`
      throw new Error(`${what}. npm run test:faults -- --seeds ${seed} runs it again`, { cause })
    }
    kept += 1
  })

  it('no two processes of restores wrote one place, by a watch that saw them at work', async ({ skip }) => {
    const violations = world?.violations ?? []
    await leave()
    if (results.length === 0) return skip('no seed was run')
    expect(violations).toEqual([])
    expect(restoresSeen).toBeGreaterThan(0)
  })

  it('no two runs filled one database, or databases for one name, by a watch that saw them at it', async ({ skip }) => {
    await leave()
    const filled = rivalries.some(({ guard }) => guard === 'server')
    if (!filled) return skip('no seed with two restores into one database was run')
    // what it saw that may not be has failed its seed
    expect(databasesSeen).toBeGreaterThan(0)
  })

  it('a second restore into one place was refused by every guard of it, while the first was at work', ({ skip }) => {
    if (RANGE !== FIXED || kept < seedsOf(FIXED).length) return skip('the fixed seeds were not all run to their end')
    if (beyond.includes('database killed')) return skip('there is no database server')
    const met = new Set(rivalries.map(({ guard, killed }) => `${guard}${killed ? ', killed' : ''}`))
    expect([...met].sort()).toEqual(['agent', 'agent, killed', 'server', 'server, killed'])
  })

  it('every kind of fault has met a job at work, and jobs that were tried again have ended good', ({ skip }) => {
    if (RANGE !== FIXED || kept < seedsOf(FIXED).length) return skip('the fixed seeds were not all run to their end')
    const struck = new Set(results.flatMap(({ step, struck }) => (struck ? [step.fault] : [])))
    expect([...struck]).toEqual(expect.arrayContaining(FAULTS.filter((fault) => fault !== 'none' && !beyond.includes(fault))))
    expect(results.filter(({ job }) => job.attempt > 1 && job.status === 'succeeded')).not.toEqual([])
  })
})

afterAll(async () => {
  await leave()
  if (results.length > 0) say(summary())
})

it('a seed draws the same schedule each time, and the fixed seeds meet every fault and every kind of source', () => {
  expect(scheduleOf(17)).toEqual(scheduleOf(17))
  const schedules = seedsOf(FIXED).map(scheduleOf)
  const met = new Set<FaultKind>(schedules.flatMap(({ steps }) => steps.map(({ fault }) => fault)))
  expect([...met].sort()).toEqual([...FAULTS].sort())
  expect([...new Set(schedules.map(({ source }) => source))].sort()).toEqual([...SOURCES].sort())
  expect([...new Set(schedules.flatMap(({ source, rivals }) => (rivals ? [source] : [])))].sort()).toEqual([...SOURCES].sort())
})

function summary(): string {
  const lines = FAULTS.map((fault) => {
    const of = results.filter(({ step }) => step.fault === fault)
    const count = (status: string) => of.filter(({ job }) => job.status === status).length
    const again = of.filter(({ job }) => job.attempt > 1).length
    const slowest = Math.max(0, ...of.map(({ seconds }) => seconds)).toFixed(1)
    const ends = `${count('succeeded')} good, ${count('failed')} failed, ${count('cancelled')} cancelled`
    const met = fault === 'none' ? '' : `, ${of.filter(({ struck }) => struck).length} struck`
    const codes = [...new Set(of.flatMap(({ job }) => (job.status === 'failed' ? [job.error?.code] : [])))].join(', ')
    return `  ${fault}: ${of.length} operations${met}, ${ends}, ${again} tried again, slowest ${slowest} s${codes && `; failed with ${codes}`}`
  })
  const seconds = (performance.now() - begin) / 1000
  const head = `${kept} of ${seedsOf(RANGE).length} seeds (${RANGE}) kept every rule, in ${Math.round(seconds)} s`
  return [head, ...lines, ...rivalLines()].join('\n')
}

function rivalLines(): string[] {
  return (['agent', 'server'] as const).map((guard) => {
    const of = rivalries.filter((one) => one.guard === guard)
    const good = of.flatMap(({ first, second }) => [first, second]).filter(({ job }) => job.status === 'succeeded')
    const codes = [...new Set(of.flatMap(({ first, second }) => [...first.failures, ...second.failures]).map(({ code }) => code))]
    const killed = of.filter((one) => one.killed).length
    const slowest = Math.max(0, ...of.map(({ seconds }) => seconds)).toFixed(1)
    return `  two restores into one place, kept apart by the ${guard}: ${of.length} times, the first killed ${killed} times, ${good.length} good, slowest ${slowest} s; failed with ${codes.join(', ')}`
  })
}
