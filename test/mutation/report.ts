import { relative } from 'node:path'
import type { MutantResult } from '@stryker-mutator/api/core'

/**
 * What became of a module's mutants: one line a file, and before them what no test noticed. The score counts as Stryker does: those found, of those that could be run;
 * an endless loop counts as found, and is shown too: it may have been a busy machine.
 */
export function report(name: string, results: readonly MutantResult[]): string {
  const files = [...new Set(results.map(({ fileName }) => fileName))].sort()
  const lines = files.map((file) =>
    line(
      relative('.', file),
      results.filter(({ fileName }) => fileName === file),
    ),
  )
  const shown = results.filter(({ status }) => status === 'Survived' || status === 'NoCoverage' || status === 'Timeout')
  return [...shown.map(described), ...lines, line(`module ${name}`, results), ''].join('\n')
}

function line(of: string, results: readonly MutantResult[]): string {
  const count = (...wanted: MutantResult['status'][]) => results.filter(({ status }) => wanted.includes(status)).length
  const [killed, endless, missed] = [count('Killed'), count('Timeout'), count('Survived', 'NoCoverage')]
  const score = ((100 * (killed + endless)) / (killed + endless + missed)).toFixed(1)
  const other = results.length - killed - endless - missed
  return `${of}: ${score} %, ${results.length} mutants, ${killed} killed, ${endless} timed out, ${missed} survived, ${other} did not run`
}

function described({ fileName, location, mutatorName, replacement, status }: MutantResult): string {
  const { line: row, column } = location.start
  const shown = replacement.replace(/\s+/g, ' ').slice(0, 100)
  return `${status} ${relative('.', fileName)}:${row}:${column} ${mutatorName}: ${shown}`
}
