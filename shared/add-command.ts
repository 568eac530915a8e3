import { NAME } from './ids.ts'
import type { FoundSource } from './results.ts'

/** `holdfast-agent source add ...` that would protect what was found, to be pasted into a shell. `home`: of an agent that has another than the usual. */
export function addCommand(found: FoundSource, home?: string): string {
  const which = home === undefined ? [] : ['--home', home]
  return ['holdfast-agent', ...which, 'source', 'add', found.name ?? 'NAME', ...found.add].map(shellQuoted).join(' ')
}

/** For people to paste: names out of databases may hold anything, control characters included. */
export function shellQuoted(argument: string): string {
  if (/^[A-Za-z0-9_@%+=:,./-]+$/.test(argument)) return argument
  if (/[^\x20-\x7e]/.test(argument)) return `$'${[...Buffer.from(argument)].map(octal).join('')}'`
  return `'${argument.replaceAll("'", `'\\''`)}'`
}

const octal = (byte: number): string => `\\${byte.toString(8).padStart(3, '0')}`

/** A name for a source after that of a database; undefined when nothing of it may stand in one. */
export function sourceNameFor(database: string): string | undefined {
  const name = database
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-')
    .replace(/\.{2,}/g, '.')
    .replace(/^[^a-z0-9]+/, '')
    .slice(0, 63)
  return NAME.test(name) ? name : undefined
}
