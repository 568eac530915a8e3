import type { BackupSink } from '../../../shared/artifacts.ts'
import { artifact } from './artifacts.ts'
import type { Session } from './session.ts'

/**
 * What depends on what, and the names of what parts can name: a table alone cannot be restored without the types, functions and
 * sequences that it uses, and pg_restore knows no such closure. Objects are named by catalog and OID, as in the list of
 * an archive (closure.ts reads it, archive-list.ts applies it).
 */
const EDGES = `
  copy (select classid, objid, refclassid, refobjid, deptype from pg_depend
        where objid >= 16384 and classid <> 0 and deptype <> 'p' order by 1, 2, 3, 4, 5) to stdout`

const NAMES = `
  copy (select 'pg_class'::regclass::oid, c.oid, n.nspname, c.relname, format('%I.%I', n.nspname, c.relname), c.relkind
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
        union all
        select 'pg_namespace'::regclass::oid, oid, nspname, '', format('%I', nspname), 's'
        from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'
        order by 1, 2) to stdout`

export async function backUpDependencies(session: Session, sink: BackupSink): Promise<void> {
  await sink.stream(artifact('dependencies'), session.copyOut(EDGES))
  await sink.stream(artifact('objects'), session.copyOut(NAMES))
}

/** One line of COPY's text format as its fields. None of these columns can be null. */
export function copyFields(line: string): string[] {
  return line.split('\t').map((field) => field.replace(/\\(.)/g, (_, letter: string) => ESCAPES[letter] ?? letter))
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', b: '\b', f: '\f', v: '\v' }
