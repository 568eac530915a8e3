import Table from 'cli-table3'
import type { Io } from './io.ts'
import { safe } from './text.ts'

export type Format = 'table' | 'json'

/** One JSON document. DEL, C1 and direction marks, which JSON leaves as they are, are escaped as JSON allows. */
export function printJson(io: Io, value: unknown): void {
  const text = JSON.stringify(value, null, io.outIsTerminal ? 2 : undefined)
  // line by line, so that the breaks between the lines stay
  io.out(`${text.split('\n').map(safe).join('\n')}\n`)
}

export function printTable(io: Io, head: readonly string[], rows: readonly (readonly string[])[], none: string): void {
  if (rows.length === 0) return io.err(`${none}\n`)
  const table = new Table({
    head: [...head],
    style: { head: [], border: [], compact: true, 'padding-left': 0, 'padding-right': 2 },
    chars: NO_LINES,
  })
  for (const row of rows) table.push(row.map(safe))
  printLines(io, table.toString())
}

/** Names at the left, values at the right; what has no value is left out. */
export function printFacts(io: Io, facts: Readonly<Record<string, string | null | undefined>>): void {
  const shown = Object.entries(facts).filter(([, value]) => value !== null && value !== undefined && value !== '')
  const width = Math.max(...shown.map(([name]) => name.length))
  for (const [name, value] of shown) io.out(`${name.padEnd(width)}  ${safe(value ?? '')}\n`)
}

function printLines(io: Io, text: string): void {
  for (const line of text.split('\n')) io.out(`${line.trimEnd()}\n`)
}

const NO_LINES = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '',
}
