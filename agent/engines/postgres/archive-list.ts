import { CATALOG, type Closure } from './closure.ts'

/**
 * The list that `pg_restore --use-list` reads, made from the one that `pg_restore --list` prints. Its lines hold names of
 * the source, which may look like anything, so only the numbers at a line's beginning and the words of pg_dump after them
 * are looked at: `dump-id; catalog oid DESCRIPTION schema name owner`.
 */
const LINE = /^(\d+); (\d+) (\d+) ([A-Z]+(?: [A-Z]+)*) (.*)$/s

interface Entry {
  readonly dumpId: string
  readonly catalog: string
  readonly oid: string
  readonly text: string
}

/** Entries that every restore needs: settings of the session. */
const ALWAYS = /^(ENCODING|STDSTRINGS|SEARCHPATH) /
/** Entries that stand by themselves and name the child, not what they were made for. */
const ATTACH = /^(?:TABLE|INDEX) ATTACH (.*)$/s

/** Dump ids of what is restored, and the number of foreign keys that cannot hold and are left out. */
export interface ChosenEntries {
  readonly kept: string[]
  readonly dropped: number
}

/** The entries that `closure` holds. One without catalog and OID (a comment, a grant) belongs to the entry before it. */
export function chooseEntries(list: string, closure: Closure): ChosenEntries {
  return choose(list, closure.holdsAll, (key) => closure.keys.has(key), closure.listed)
}

/** All entries but the foreign keys that `holds` refuses. */
export function dropConstraints(list: string, holds: (key: string) => boolean): ChosenEntries {
  return choose(list, holds, () => true, null)
}

function choose(
  list: string,
  holds: (key: string) => boolean,
  wanted: (key: string) => boolean,
  listed: readonly string[] | null,
): ChosenEntries {
  const kept: string[] = []
  let dropped = 0
  let last = listed === null
  for (const entry of entries(list)) {
    if (entry.oid !== '0') {
      // the content of a materialised view has its OID without its catalog
      const key = `${entry.catalog === '0' ? CATALOG.class : entry.catalog} ${entry.oid}`
      const holding = !entry.text.startsWith('FK CONSTRAINT ') || holds(key)
      last = wanted(key) && holding
      if (wanted(key) && !holding) dropped++
    }
    const attached = ATTACH.exec(entry.text)?.[1]
    const stands = attached === undefined ? last : listed === null || listed.some((name) => attached.startsWith(`${name} `))
    if (stands || ALWAYS.test(entry.text)) kept.push(entry.dumpId)
  }
  return { kept, dropped }
}

function* entries(list: string): Generator<Entry> {
  for (const line of list.split('\n')) {
    const match = LINE.exec(line)
    if (!match) continue
    const [, dumpId = '', catalog = '', oid = '', words = '', rest = ''] = match
    yield { dumpId, catalog, oid, text: `${words} ${rest}` }
  }
}
