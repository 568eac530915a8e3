import { createHash } from 'node:crypto'
import type { DatabaseSync } from 'node:sqlite'
import { text } from './child-pin.ts'
import type { Counted, INTEGRITY } from './messages.ts'

const MAX_PROBLEMS = 100

/** Rows of every table, facts, and what the check finds, as the connection sees the database now. */
export function countAll(db: DatabaseSync, integrity: (typeof INTEGRITY)[number]): Counted {
  const problems = integrity === 'off' ? [] : checkIntegrity(db, integrity)
  const counts = new Map<string, number>()
  for (const table of tables(db)) {
    try {
      counts.set(table, Number(db.prepare(`select count(*) as n from main.${quote(table)}`).get()?.n))
    } catch (error) {
      problems.push(`table ${table} cannot be counted: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  return { counts: Object.fromEntries(counts), facts: facts(db), problems: problems.slice(0, MAX_PROBLEMS) }
}

/** Ordinary tables, those of full-text and other indexes among them. What a virtual one answers is up to its module. */
function tables(db: DatabaseSync): string[] {
  const rows = db.prepare('pragma main.table_list').all()
  return rows
    .filter(({ type, name }) => (type === 'table' || type === 'shadow') && !String(name).startsWith('sqlite_'))
    .map(({ name }) => String(name))
    .sort()
}

export const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`

function checkIntegrity(db: DatabaseSync, integrity: 'quick' | 'full'): string[] {
  const pragma = integrity === 'full' ? 'integrity_check' : 'quick_check'
  try {
    const found = db.prepare(`pragma ${pragma}(${MAX_PROBLEMS})`).all()
    return found.map((row) => String(Object.values(row)[0])).filter((line) => line !== 'ok')
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)]
  }
}

function facts(db: DatabaseSync): Record<string, string> {
  const hash = createHash('sha256')
  for (const row of db.prepare('select type, name, tbl_name, sql from sqlite_schema order by type, name').iterate()) {
    hash.update(`${JSON.stringify(Object.values(row))}\n`)
  }
  const pragmas = ['page_size', 'page_count', 'journal_mode', 'encoding', 'user_version', 'application_id']
  return Object.fromEntries([...pragmas.map((name) => [name, text(db, name)]), ['schema_sha256', hash.digest('hex')]])
}
