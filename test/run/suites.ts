import { existsSync } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { seedsOf } from '../harness/seeded.ts'
import { runBounded } from './bounded.ts'
import { endNoted } from './end-processes.ts'
import type { Note } from './reporter.ts'
import type { Outcome, RunContext } from './step.ts'

const MINUTE = 60_000

export interface Suite {
  /** For the whole project, the building of its real servers included; then it is ended. See `limitOf`. */
  readonly limitMs: number
  /** Test files at once, on a machine with few processors too: where they mostly wait for programs, two take little more time than one. */
  readonly leastWorkers: number
}

/** In this order. Each has more than four times as long as it takes on two processors that nobody else uses. */
export const SUITES: Readonly<Record<string, Suite>> = {
  unit: { limitMs: 30 * MINUTE, leastWorkers: 1 },
  contracts: { limitMs: 60 * MINUTE, leastWorkers: 2 },
  stories: { limitMs: 75 * MINUTE, leastWorkers: 2 },
  faults: { limitMs: 75 * MINUTE, leastWorkers: 2 },
}

const SEED_MS = 20_000

/** More seeds than those of every run have the time for them. */
export function limitOf(project: string, seeds: string | undefined): number {
  const { limitMs = 0 } = SUITES[project] ?? {}
  return Math.max(limitMs, (seeds === undefined ? 0 : seedsOf(seeds).length) * SEED_MS)
}

/** As vitest has it, which leaves one processor to itself. */
const workersOf = (project: string) => Math.max(SUITES[project]?.leastWorkers ?? 1, availableParallelism() - 1)

export interface SuiteOptions {
  /** Paths to run alone; all when empty. */
  readonly filters: readonly string[]
  /** Of the real parts that were asked for: `available` notes them here. */
  readonly partsFile: string
  readonly limitMs: number
  /** Aborted: its limit is over already. */
  readonly over?: AbortSignal
}

export interface NotedTest {
  readonly file: string
  readonly test: string
  readonly why: string | undefined
}

export interface SuiteOutcome extends Outcome {
  /** What its tests have to say at the end of the run. */
  readonly said: readonly string[]
  readonly skippedTests: readonly NotedTest[]
  readonly failedTests: readonly NotedTest[]
}

/** One project of vitest.config.ts, counted test by test. */
export async function runSuite(project: string, context: RunContext, options: SuiteOptions): Promise<SuiteOutcome> {
  const begin = performance.now()
  const folder = path.join(context.folder, project)
  const notes = path.join(folder, 'notes')
  const processes = path.join(folder, 'processes')
  const temporary = path.join(folder, 't')
  await mkdir(temporary, { recursive: true })
  const vitest = path.join(context.root, 'node_modules/vitest/vitest.mjs')
  const reporters = ['--reporter=default', `--reporter=${path.join(context.root, 'test/run/reporter.ts')}`]
  const args = [
    vitest,
    'run',
    '--project',
    project,
    ...reporters,
    '--silent=passed-only',
    '--passWithNoTests',
    `--maxWorkers=${workersOf(project)}`,
    ...options.filters,
  ]
  const env = {
    HOLDFAST_TEST_NOTES: notes,
    HOLDFAST_TEST_REPORT: options.partsFile,
    HOLDFAST_TEST_PROCESSES: processes,
    TMPDIR: temporary,
  }
  const ended = await runBounded(context, context.node, args, { env, limitMs: options.limitMs, over: options.over, show: true })
  const left = await endNoted(processes)
  const counted = count(existsSync(notes) ? await readFile(notes, 'utf8') : '')
  const trouble = [...counted.trouble]
  if (ended.timedOut)
    trouble.push(
      `was ended after ${options.limitMs / MINUTE} minutes; files that had not ended: ${counted.running.join('; ') || 'none'}`,
    )
  else if (ended.status !== 0 && counted.failed === 0 && trouble.length === 0)
    trouble.push(`vitest ended with ${ended.status ?? 'a signal'} although no test failed: its output is above`)
  if (trouble.length === 0 && options.filters.length === 0 && counted.passed + counted.failed + counted.skipped === 0)
    trouble.push('has no tests')
  if (left > 0) trouble.push(`${left} servers were left running by their tests`)
  return {
    name: project,
    passed: counted.passed,
    // what has no test to fail counts as one failure each
    failed: counted.failed + trouble.length,
    skipped: counted.skipped,
    skippedTests: counted.skippedTests,
    failedTests: counted.failedTests,
    said: counted.said,
    seconds: (performance.now() - begin) / 1000,
    ...(trouble.length > 0 ? { trouble: trouble.join('\n') } : {}),
  }
}

/** Adds up the reporter's notes. `running` are the files that began and did not end. */
export function count(notes: string) {
  const running = new Set<string>()
  const counts = { passed: 0, failed: 0, skipped: 0 }
  const trouble: string[] = []
  const said: string[] = []
  const skippedTests: NotedTest[] = []
  const failedTests: NotedTest[] = []
  for (const line of notes.split('\n')) {
    if (line === '') continue
    const note = JSON.parse(line) as Note
    if (note.note === 'begin') running.add(note.file)
    if (note.note === 'said') said.push(note.text)
    if (note.note === 'test') {
      counts[note.state] += 1
      const noted = { file: note.file, test: note.test, why: note.why }
      if (note.state === 'skipped') skippedTests.push(noted)
      if (note.state === 'failed') failedTests.push(noted)
    }
    if (note.note === 'end') {
      running.delete(note.file)
      if (note.broken !== undefined) trouble.push(`${note.file}: ${note.broken}`)
    }
  }
  return { ...counts, running: [...running], trouble, skippedTests, failedTests, said }
}
