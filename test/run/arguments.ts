import { SUITES } from './suites.ts'

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
 * `--seeds A..B` is for the faults.
 */
export function readArguments(args: readonly string[]): Wanted {
  const names: string[] = []
  let seeds: string | undefined
  for (let i = 0; i < args.length; i += 1) {
    const arg = args[i] ?? ''
    if (arg === '--seeds') {
      i += 1
      seeds = args[i]
      if (!/^\d+(\.\.\d+)?$/.test(seeds ?? '')) throw new Error('--seeds takes a number or a range: --seeds 1..60')
    } else if (arg.startsWith('-')) {
      throw new Error(
        `unknown option ${arg}: npm test -- [static] [${Object.keys(SUITES).join('] [')}] [PATH ...] [--seeds A..B]`,
      )
    } else names.push(arg)
  }
  const suites = Object.keys(SUITES).filter((name) => names.includes(name))
  const filters = names.filter((name) => name !== 'static' && !(name in SUITES))
  const all = names.length === 0
  return {
    staticSteps: all || names.includes('static'),
    suites: all || (suites.length === 0 && filters.length > 0) ? Object.keys(SUITES) : suites,
    filters,
    seeds,
  }
}
