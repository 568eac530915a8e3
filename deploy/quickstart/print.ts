import path from 'node:path'
import { shellQuoted } from '../../shared/add-command.ts'

export function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

/** One line of the tour: held, did not hold, or only said. */
export function row(held: boolean | null, what: string, text: string): void {
  const mark = held === null ? ' ' : held ? '✓' : '✗'
  print(`  ${mark} ${what.padEnd(15)} ${text}`)
}

/** `12 480` */
export const grouped = (value: number): string => String(value).replace(/\B(?=(\d{3})+$)/g, ' ')

/** As one would type it here: `data/store`, or in full where the home lies elsewhere. */
export function shownPath(home: string, name: string, cwd = process.cwd()): string {
  const file = path.resolve(cwd, home, name)
  const relative = path.relative(cwd, file)
  return relative.startsWith('..') ? file : relative
}

/** Both programs look into `data/` where they stand; any other home has to be named to each. */
export function homeNeeded(home: string, program: 'operator' | 'agent', cwd = process.cwd()): string {
  const shown = path.resolve(cwd, home)
  if (shown === path.join(cwd, 'data')) return ''
  return program === 'operator'
    ? `HOLDFAST_HOME=${shellQuoted(shown)} `
    : `HOLDFAST_AGENT_HOME=${shellQuoted(path.join(shown, 'agent'))} `
}
