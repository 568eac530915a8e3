import pLimit from 'p-limit'
import { afterAll, describe, expect, it } from 'vitest'
import { say } from '../../harness/say.ts'
import { seedsOf } from '../../harness/seeded.ts'
import { LINES, nameOf, PLACES, SOURCES, scheduleOf } from './schedule.ts'
import { runSeed } from './seed-run.ts'
import { Tallied } from './tallied.ts'
import { DataPathWorld } from './world.ts'

/**
 * Seeded faults of everything that a backup's bytes pass: the process of a job and its agent killed, disks that fail, lines that cut, repeat and mix up. What
 * is committed is the source, byte for byte; what failed says why, and goes on. `npm run test:faults -- --campaign data-path --seeds 17` runs one again.
 */

/** Those of every test run. */
const FIXED = '1..60'
const RANGE = process.env.HOLDFAST_TEST_DATA_PATH_SEEDS ?? FIXED
const tallied = new Tallied()
/** At once: much of a seed is waiting, for processes to start and for transfers that are tried again. */
const LANES = 3
/** Of other seeds than the fixed ones, which meet everything, as many leave no kind of fault out. */
const ENOUGH = 500
/** Then a new world: its store and what was seen on its line stay short. */
const SEEDS_OF_A_WORLD = 100
const lane = pLimit(LANES)
const idle: Array<{ world: DataPathWorld; seeds: number }> = []

/** With a world that no other seed uses meanwhile. False where there can be none. */
async function inAWorld(work: (world: DataPathWorld) => Promise<void>): Promise<boolean> {
  const kept = idle.pop()
  const world = kept?.world ?? (await DataPathWorld.start())
  if (!world) return false
  const seeds = (kept?.seeds ?? 0) + 1
  try {
    await work(world)
  } catch (error) {
    // whatever it left behind is no affair of the next
    await world[Symbol.asyncDispose]()
    throw error
  }
  if (seeds < SEEDS_OF_A_WORLD) idle.push({ world, seeds })
  else await world[Symbol.asyncDispose]()
  return true
}

describe(`seeds ${RANGE}`, () => {
  it.concurrent.for(seedsOf(RANGE))('seed %i', { timeout: 300_000 }, (seed, { skip }) =>
    lane(async () => {
      const schedule = scheduleOf(seed)
      const ran = await inAWorld(async (world) => tallied.add(await runSeed(world, schedule))).catch((cause: unknown) => {
        const again = `npm run test:faults -- --campaign data-path --seeds ${seed} runs it again`
        const why = cause instanceof Error ? cause.message : String(cause)
        throw new Error(`seed ${seed}: ${why}\n${JSON.stringify(schedule)}\n${again}`, { cause })
      })
      if (!ran) skip('disks cannot be made to fail on this machine')
    }),
  )
})

it('kills, disks and lines have struck where they were to', ({ skip }) => {
  const asked = RANGE === FIXED ? seedsOf(FIXED).length : ENOUGH
  if (tallied.seeds < asked) return skip('there were too few seeds')
  const seldom = new Set<string>(['known'])
  const all = ['job', 'agent', ...PLACES, ...LINES].filter((one) => !seldom.has(one))
  expect([...tallied.struck]).toEqual(expect.arrayContaining(all))
})

afterAll(async () => {
  await Promise.all(idle.map(({ world }) => world[Symbol.asyncDispose]()))
  if (tallied.seeds > 0) say(tallied.table(RANGE, seedsOf(RANGE).length))
})

it('a seed draws the same schedule each time, and the fixed seeds meet every kind of kill, disk, line and source', () => {
  expect(scheduleOf(17)).toEqual(scheduleOf(17))
  const schedules = seedsOf(FIXED).map(scheduleOf)
  const faults = schedules.flatMap(({ steps }) => steps.flatMap((step) => step.faults))
  const drawn = new Set(
    faults.map((fault) => (fault.kind === 'disk' ? fault.where : fault.kind === 'line' ? fault.what : fault.who)),
  )
  expect([...drawn].sort()).toEqual([...PLACES, ...LINES, 'job', 'agent'].sort())
  expect([...new Set(schedules.map(({ source }) => source))].sort()).toEqual([...SOURCES].sort())
  expect(new Set(faults.map(nameOf)).size).toBeGreaterThan(30)
})
