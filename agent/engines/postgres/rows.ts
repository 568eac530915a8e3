import type { BackupSink } from '../../../shared/artifacts.ts'
import type { Run } from '../engine.ts'
import { CHUNKING } from './artifacts.ts'
import type { PostgresConfig } from './config.ts'
import { openRowReader } from './copy-out.ts'
import { fifoSupply } from './fifos.ts'
import { asciiIdent, ident } from './quote.ts'
import type { Session } from './session.ts'
import type { Snapshot } from './snapshot.ts'
import { countedAs, type Table } from './tables.ts'
import { together } from './together.ts'
import type { PostgresTools } from './tools.ts'

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
    readonly session: Session
    readonly tools: PostgresTools
    readonly env: Readonly<Record<string, string>>
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
  const ours = all.filter((piece) => piece.table.condition !== null)
  const usual = all.filter((piece) => piece.table.condition === null)
  const fifos = fifoSupply(run)
  await together(Math.min(context.config.parallel, usual.length), run, async (worker) => {
    const reader = openRowReader(fifos, context.snapshot.id, context.tools, context.env, worker)
    for (let piece = usual.shift(); piece; piece = usual.shift()) {
      if (!(await reader.lock(relationOf(piece.table, asciiIdent)))) {
        ours.push(piece)
        continue
      }
      add(piece, await reader.read(copyStatement(piece, context.encoding, asciiIdent), metaOf(piece, context.encoding), sink))
    }
    await reader.close()
  })
  for (const piece of ours) add(piece, await readByProtocol(piece, context, sink))
  return counts
}

/**
 * By the session that holds the locks: tables that someone waits for, and those with an extension's own condition, which is SQL
 * of the server that psql must never see. Slower, and not in parallel.
 */
async function readByProtocol(piece: Piece, context: { session: Session; encoding: string }, sink: BackupSink): Promise<number> {
  const stream = context.session.copyOut(copyStatement(piece, context.encoding, ident))
  let rows = 0
  await sink.stream(metaOf(piece, context.encoding), counted(stream))
  return rows

  /** In COPY's text format a newline is the end of a row and nothing else: those in values are escaped. */
  async function* counted(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const piece of bytes) {
      for (let at = piece.indexOf(10); at >= 0; at = piece.indexOf(10, at + 1)) rows++
      yield piece
    }
  }
}

const relationOf = (table: Table, quote: (name: string) => string) => `${quote(table.schema)}.${quote(table.name)}`

function copyStatement({ table, pages }: Piece, encoding: string, quote: (name: string) => string): string {
  const relation = relationOf(table, quote)
  const columns = table.columns.map(quote).join(', ')
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
