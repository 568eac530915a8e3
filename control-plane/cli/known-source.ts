import { HoldfastError } from '../../shared/errors.ts'
import { parseSourceName } from '../../shared/ids.ts'
import type { SourceView } from '../api/schemas/agents.ts'
import type { Client } from './client.ts'
import { readAll } from './list-all.ts'
import { safe } from './text.ts'

/** An argument or option that names a source: refused here, in the words of the command line, before the API would in its own. */
export function sourceName(text: string): string {
  parseSourceName(text)
  return text
}

/** As many as fit a hint. */
const NAMED = 3
/** Letters that may differ. */
const SLIPS = 2

/**
 * After an empty list of one source: throws `not_found` where there is no such source, be it there or removed. The API leaves the list empty, as filters
 * of a collection do: a script asks about a source before its host has first connected, or with a key that may not see it, and gets one answer for all of
 * these. A person who is told that there are no backups of what he has misspelt takes them for lost.
 */
export async function requireKnownSource(client: Client, source: string): Promise<void> {
  const names = (await readAll<SourceView>(client, '/api/v1/sources')).map((item) => item.source)
  if (names.includes(source)) return
  const like = nearest(source, names)
  const hint = 'List the sources with "holdfast sources"; a host shows its sources once its agent has connected.'
  throw new HoldfastError('not_found', `source ${source} is not known`, {
    hint: like.length === 0 ? hint : `Did you mean ${like.map(safe).join(' or ')}? ${hint}`,
  })
}

function nearest(wanted: string, names: readonly string[]): string[] {
  const nameOf = (source: string) => source.slice(source.indexOf('/') + 1)
  const far = (source: string) =>
    Math.min(distance(wanted, source), nameOf(wanted) === nameOf(source) ? SLIPS : Number.POSITIVE_INFINITY)
  const near = names.filter((name) => far(name) <= SLIPS)
  return near.sort((a, b) => far(a) - far(b)).slice(0, NAMED)
}

/** Levenshtein's, by rows. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const swapped = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(swapped, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
