import { seedsOf } from '../harness/seeded.ts'
import { SUITES } from './suites.ts'

const SEEDED = 'test/fault/seeds.test.ts'

export interface Wanted {
  readonly staticSteps: boolean
  readonly suites: readonly string[]
  /** Parts of paths; only test files that match one are run. */
  readonly filters: readonly string[]
  /** `A..B` or one number: for the suites whose schedules are seeded. */
  readonly seeds: string | undefined
}

/**
 * `npm test` runs everything. `npm test -- static unit` runs those, `npm test -- agent/engines` the suites' files that match.
 * `--seeds A..B` runs the seeded faults alone, with these seeds; with paths, those.
 */
export function readArguments(args: readonly string[]): Wanted {
  const names: string[] = []
  let seeds: string | undefined
  for (let i = 0; i < args.length; i += 1) {
    const arg = args[i] ?? ''
    if (arg === '--seeds') {
      i += 1
      seeds = args[i]
      seedsOf(seeds ?? '')
    } else if (arg.startsWith('-')) {
      throw new Error(
        `unknown option ${arg}: npm test -- [static] [${Object.keys(SUITES).join('] [')}] [PATH ...] [--seeds A..B]`,
      )
    } else names.push(arg)
  }
  const suites = Object.keys(SUITES).filter((name) => names.includes(name))
  const paths = names.filter((name) => name !== 'static' && !(name in SUITES))
  const filters = seeds !== undefined && paths.length === 0 ? [SEEDED] : paths
  const all = names.length === 0 && seeds === undefined
  return {
    staticSteps: all || names.includes('static'),
    suites: all || (suites.length === 0 && filters.length > 0) ? Object.keys(SUITES) : suites,
    filters,
    seeds,
  }
}
