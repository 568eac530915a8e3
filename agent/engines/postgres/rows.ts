import type { BackupSink } from '../../../shared/artifacts.ts'
import type { Run } from '../engine.ts'
import { CHUNKING } from './artifacts.ts'
import type { PostgresConfig } from './config.ts'
import { copyOut, withRowReader } from './copy-out.ts'
import { ident } from './quote.ts'
import type { Session, Sessions } from './session.ts'
import type { Snapshot } from './snapshot.ts'
import { countedAs, type Table } from './tables.ts'
import { together } from './together.ts'

/** A table, or a range of the pages of a large one: `to` is left out, null at the end. */
export interface Piece {
  readonly table: Table
  readonly pages: { readonly from: number; readonly to: number | null } | null
}

/** Ranges begin at the same pages in every backup while the table grows, so that only the last ones differ. */
export function pieces(tables: readonly Table[], rangeBytes: number): Piece[] {
  const all = tables.flatMap((table): Piece[] => {
    const pageBytes = table.pages > 0 ? 8192 : 0
    const size = table.pages * pageBytes
    if (!table.heap || table.condition !== null || table.columns.length === 0 || size <= 2 * rangeBytes)
      return [{ table, pages: null }]
    const step = Math.ceil(rangeBytes / 8192)
    const found: Piece[] = []
    for (let from = 0; from < table.pages; from += step) {
      found.push({ table, pages: { from, to: from + step < table.pages ? from + step : null } })
    }
    return found
  })
  // the largest first: otherwise one of them is left alone at the end
  return all.sort((a, b) => pieceBytes(b) - pieceBytes(a))
}

const pieceBytes = (piece: Piece) => (piece.pages?.to ? (piece.pages.to - piece.pages.from) * 8192 : piece.table.sizeBytes)

/** Reads all pieces in parallel; gives the exact number of rows by part. */
export async function backUpRows(
  chosen: readonly Table[],
  context: {
    readonly config: PostgresConfig
    readonly snapshot: Snapshot
    readonly sessions: Sessions
    /** That holds the locks. */
    readonly session: Session
    readonly encoding: string
  },
  sink: BackupSink,
  run: Run,
): Promise<Record<string, number>> {
  const counts: Record<string, number> = Object.fromEntries(chosen.map((table) => [countedAs(table), 0]))
  const add = (piece: Piece, rows: number) => {
    const part = countedAs(piece.table)
    counts[part] = (counts[part] ?? 0) + rows
    run.progress({ objectsDone: 1 })
  }
  const all = pieces(chosen, context.config.range_bytes)
  run.progress({ phase: 'rows', objectsTotal: all.length })
  const free = [...all]
  const contended: Piece[] = []
  await together(Math.min(context.config.parallel, free.length), run, (worker) =>
    withRowReader(context.sessions, context.snapshot.id, worker, async (reader) => {
      for (let piece = free.shift(); piece; piece = free.shift()) {
        if (await reader.lock(relationOf(piece.table))) {
          add(piece, await reader.read(copyStatement(piece, context.encoding), metaOf(piece, context.encoding), sink))
        } else contended.push(piece)
      }
    }),
  )
  // tables that someone waits to have for himself: by the session that holds their locks, one after the other
  for (const piece of contended) {
    add(piece, await copyOut(context.session, copyStatement(piece, context.encoding), metaOf(piece, context.encoding), sink))
  }
  return counts
}

const relationOf = (table: Table) => `${ident(table.schema)}.${ident(table.name)}`

function copyStatement({ table, pages }: Piece, encoding: string): string {
  const relation = relationOf(table)
  const columns = table.columns.map(ident).join(', ')
  const options = `to stdout (encoding '${encoding}')`
  if (table.condition !== null) return `copy (select ${columns} from only ${relation} ${table.condition}) ${options}`
  if (pages === null) return `copy ${relation} ${columns === '' ? '' : `(${columns})`} ${options}`
  const upper = pages.to === null ? '' : ` and ctid < '(${pages.to},0)'`
  return `copy (select ${columns} from only ${relation} where ctid >= '(${pages.from},0)'${upper}) ${options}`
}

function metaOf({ table, pages }: Piece, encoding: string) {
  const into = table.loadInto ?? table
  return {
    name: pages === null ? `rows of ${table.part}` : `rows of ${table.part} from page ${pages.from}`,
    part: countedAs(table),
    chunking: CHUNKING,
    facts: {
      kind: 'rows',
      schema: table.schema,
      table: table.name,
      columns: JSON.stringify(table.columns),
      encoding,
      load_schema: into.schema,
      load_table: into.name,
    },
  }
}
