import { seedsOf } from '../harness/seeded.ts'
import { SUITES } from './suites.ts'

/** What draws schedules from seeds. `whole-system` is meant where none is named. */
export const CAMPAIGNS = {
  'whole-system': { file: 'test/fault/seeds.test.ts', variable: 'HOLDFAST_TEST_SEEDS' },
  'data-path': { file: 'test/fault/data-path/data-path.test.ts', variable: 'HOLDFAST_TEST_DATA_PATH_SEEDS' },
} as const
export type Campaign = keyof typeof CAMPAIGNS

export interface Wanted {
  readonly staticSteps: boolean
  readonly suites: readonly string[]
  /** Parts of paths; only test files that match one are run. */
  readonly filters: readonly string[]
  /** `A..B` or one number: for the suites whose schedules are seeded. */
  readonly seeds: string | undefined
  /** Whose seeds these are. */
  readonly campaign: Campaign
}

/**
 * `npm test` runs everything. `npm test -- static unit` runs those, `npm test -- agent/engines` the suites' files that match.
 * `--seeds A..B` runs the seeded faults alone, with these seeds; with paths, those. `--campaign NAME` says which seeded faults; without
 * seeds it runs those of every test run.
 */
export function readArguments(args: readonly string[]): Wanted {
  const names: string[] = []
  let seeds: string | undefined
  let campaign: Campaign | undefined
  for (let i = 0; i < args.length; i += 1) {
    const arg = args[i] ?? ''
    if (arg === '--seeds') {
      i += 1
      seeds = args[i]
      seedsOf(seeds ?? '')
    } else if (arg === '--campaign') {
      i += 1
      campaign = campaignOf(args[i] ?? '')
    } else if (arg.startsWith('-')) {
      throw new Error(
        `unknown option ${arg}: npm test -- [static] [${Object.keys(SUITES).join('] [')}] [PATH ...] [--campaign ${Object.keys(CAMPAIGNS).join('|')}] [--seeds A..B]`,
      )
    } else names.push(arg)
  }
  const suites = Object.keys(SUITES).filter((name) => names.includes(name))
  const paths = names.filter((name) => name !== 'static' && !(name in SUITES))
  const seeded = seeds !== undefined || campaign !== undefined
  const filters = seeded && paths.length === 0 ? [CAMPAIGNS[campaign ?? 'whole-system'].file] : paths
  const all = names.length === 0 && !seeded
  return {
    staticSteps: all || names.includes('static'),
    suites: all || (suites.length === 0 && filters.length > 0) ? Object.keys(SUITES) : suites,
    filters,
    seeds,
    campaign: campaign ?? 'whole-system',
  }
}

function campaignOf(name: string): Campaign {
  if (Object.hasOwn(CAMPAIGNS, name)) return name as Campaign
  throw new Error(`unknown campaign ${name}: there are ${Object.keys(CAMPAIGNS).join(' and ')}`)
}
