import { isHoldfastError } from '../../../shared/errors.ts'
import type { Fingerprint } from '../../../shared/results.ts'
import type { Place, Run } from '../engine.ts'
import { addressOf } from './address.ts'
import type { DatabaseFacts } from './artifacts.ts'
import type { PostgresConfig } from './config.ts'
import { readDatabaseFacts } from './database-facts.ts'
import { ident } from './quote.ts'
import { readSequences } from './sequences.ts'
import { serverOf } from './server.ts'
import { type Session, withSessions } from './session.ts'
import { joinSnapshot, takeSnapshot } from './snapshot.ts'
import { countedAs, isNamed, type Table } from './tables.ts'
import { together } from './together.ts'

/** Keys that no table can have: those of tables always hold a dot. */
export const SEQUENCES = 'sequences'
export const LARGE_OBJECTS = 'large objects'

/** Facts are those that a restored copy shares with its source. */
export function fingerprintOf(
  facts: DatabaseFacts,
  rows: Readonly<Record<string, number>>,
  whole: { sequences: number; largeObjects: number } | null,
): Fingerprint {
  const others: Record<string, number> = whole ? { [SEQUENCES]: whole.sequences, [LARGE_OBJECTS]: whole.largeObjects } : {}
  return {
    counts: { ...rows, ...others },
    facts: {
      server_version: facts.server_version,
      encoding: facts.encoding,
      collate: facts.collate,
      ctype: facts.ctype,
    },
  }
}

/** Counts every table at one snapshot, several at a time. */
export async function countPlace(place: Place<PostgresConfig>, run: Run): Promise<Fingerprint> {
  const { config } = place
  const address = await addressOf(config)
  const database = place.targetName ?? address.database
  return withSessions({ ...address, database }, run, async (sessions) => {
    const session = await sessions.open()
    const server = await serverOf(session)
    const snapshot = await takeSnapshot(session)
    const facts = await readDatabaseFacts(session, server, { chosen: null, left_out: [] })
    const queue = snapshot.tables.filter((table) => table.holdsRows && (place.restored || isCounted(table, config)))
    const rows: Record<string, number> = Object.fromEntries(queue.map((table) => [countedAs(table), 0]))
    const count = async (by: Session, table: Table) => {
      const found = await countRows(by, table)
      rows[countedAs(table)] = (rows[countedAs(table)] ?? 0) + found
    }
    const contended: Table[] = []
    await together(Math.min(config.parallel, queue.length), run, async (worker) => {
      const counter = await sessions.open()
      await counter.run(joinSnapshot(snapshot.id))
      for (let table = queue.shift(); table; table = queue.shift()) {
        worker.signal.throwIfAborted()
        if (await lockNow(counter, table)) await count(counter, table)
        else contended.push(table)
      }
    })
    // someone waits to have these for himself: only the session that has a lock already does not queue behind him
    for (const table of contended) await count(session, table)
    if (config.include.length > 0 && !place.restored) return fingerprintOf(facts, rows, null)
    let sequences = 0
    for await (const _ of readSequences(session)) sequences++
    return fingerprintOf(facts, rows, { sequences, largeObjects: await countLargeObjects(session) })
  })
}

export async function countLargeObjects(session: Session): Promise<number> {
  const [row] = await session.rows<{ count: string }>('select count(*) from pg_largeobject_metadata')
  return Number(row?.count ?? 0)
}

async function lockNow(session: Session, table: Table): Promise<boolean> {
  await session.run('savepoint taken')
  try {
    await session.run(`lock table only ${ident(table.schema)}.${ident(table.name)} in access share mode nowait`)
    return true
  } catch (error) {
    if (!isHoldfastError(error, 'source_locked')) throw error
    await session.run('rollback to savepoint taken')
    return false
  }
}

async function countRows(session: Session, table: Table): Promise<number> {
  const relation = `${ident(table.schema)}.${ident(table.name)}`
  const [row] = await session.rows<{ count: string }>(`select count(*) from only ${relation} ${table.condition ?? ''}`)
  return Number(row?.count ?? 0)
}

/** As chooseTables, but a restored copy need not have everything that the source's configuration names. */
function isCounted(table: Table, config: PostgresConfig): boolean {
  const named = (name: string) => isNamed(table, name)
  return (config.include.length === 0 || config.include.some(named)) && !config.exclude.some(named)
}
