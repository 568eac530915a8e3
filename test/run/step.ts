/** One thing that the test run does and counts. */
export interface Outcome {
  readonly name: string
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  readonly seconds: number
  /** What went wrong, for a person. */
  readonly trouble?: string
}

export interface RunContext {
  /** The project's folder. */
  readonly root: string
  /** The Node that runs everything. */
  readonly node: string
  /** For this run alone; removed at its end. */
  readonly folder: string
  /** Aborted by Ctrl-C: what runs is ended, with everything it started. */
  readonly signal: AbortSignal
  /** Show nothing of what runs. */
  readonly quiet?: boolean
}
