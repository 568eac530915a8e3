import type { Outcome } from './step.ts'
import type { SuiteOutcome } from './suites.ts'

export interface Part {
  readonly part: string
  readonly used: boolean
  readonly reason?: string
}

/** In characters. */
const LONGEST_REASON = 2000

/** The end of a test run, for people; its last line also for scripts. */
export function report(outcomes: readonly Outcome[], suites: readonly SuiteOutcome[], parts: readonly Part[]): string {
  const lines: string[] = ['']
  const used = unique(parts.filter((part) => part.used).map((part) => part.part))
  lines.push('Real servers and tools used:', ...(used.length > 0 ? used.map((part) => `  ${part}`) : ['  none']))
  const missing = unique(parts.filter((part) => !part.used).map((part) => `${part.part}: ${firstLine(part.reason ?? '')}`))
  if (missing.length > 0) lines.push('Not used:', ...missing.map((part) => `  ${part}`))
  const skipped = suites.flatMap((suite) => suite.skippedTests)
  if (skipped.length > 0) lines.push('Skipped tests:', ...byFile(skipped))
  lines.push(...suites.flatMap((suite) => suite.said))
  const failed = suites.flatMap((suite) => suite.failedTests)
  if (failed.length > 0) lines.push('Failed tests:', ...failed.map(({ file, test, why }) => `  ${file}: ${test}${reason(why)}`))
  const troubles = [...outcomes, ...suites].filter((outcome) => outcome.trouble !== undefined)
  if (troubles.length > 0)
    lines.push(
      'What failed besides single tests:',
      ...troubles.map(({ name, trouble }) => `  ${name}: ${indented(trouble ?? '')}`),
    )
  lines.push('Time:', ...[...outcomes, ...suites].map(line))
  const sum = (key: 'passed' | 'failed' | 'skipped') =>
    [...outcomes, ...suites].reduce((total, outcome) => total + outcome[key], 0)
  lines.push(`${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped`)
  return lines.join('\n')
}

/** One line of a step: `  ✓ types   6.2 s`. */
export function line(outcome: Outcome): string {
  const mark = outcome.failed > 0 ? '✗' : '✓'
  const counted =
    outcome.passed + outcome.failed + outcome.skipped > 1
      ? `   ${outcome.passed} passed, ${outcome.failed} failed, ${outcome.skipped} skipped`
      : ''
  return `  ${mark} ${outcome.name.padEnd(48)}${outcome.seconds.toFixed(1).padStart(7)} s${counted}`
}

function byFile(skipped: SuiteOutcome['skippedTests']): string[] {
  const files = new Map<string, { tests: number; whys: string[] }>()
  for (const { file, why } of skipped) {
    const entry = files.get(file) ?? { tests: 0, whys: [] }
    entry.tests += 1
    if (why !== undefined) entry.whys.push(why)
    files.set(file, entry)
  }
  return [...files].map(([file, { tests, whys }]) => {
    const reasons =
      whys.length > 0 ? unique(whys).join('; ') : 'does not apply, or needs a real part that is not here (see above)'
    return `  ${file}: ${tests} (${reasons})`
  })
}

function unique(texts: readonly string[]): string[] {
  return [...new Set(texts)].sort()
}

/** The whole is where it happened, in the output above; this is for who sees the end alone. */
function reason(why: string | undefined): string {
  return why === undefined ? '' : `\n    ${indented(why.length > LONGEST_REASON ? `${why.slice(0, LONGEST_REASON)} ...` : why)}`
}

function firstLine(text: string): string {
  return text.split('\n')[0] ?? ''
}

function indented(text: string): string {
  return text.split('\n').join('\n    ')
}
