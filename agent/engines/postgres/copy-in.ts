import type { BackupSource } from '../../../shared/artifacts.ts'
import { HoldfastError, isHoldfastError } from '../../../shared/errors.ts'
import type { Run } from '../engine.ts'
import { invalid, type RowsArtifact } from './artifacts.ts'
import { fromTool } from './errors.ts'
import { asciiIdent } from './quote.ts'
import { together } from './together.ts'
import type { PostgresTools } from './tools.ts'

/** Linux's limit of one argument is 128 KiB (MAX_ARG_STRLEN). */
const MAX_STATEMENT = 120 * 1024
/** What one psql takes at most: starting one costs some 30 ms, and a failure of one table stops those after it. */
const BATCH = { tables: 200, bytes: 1024 * 1024, statements: 128 * 1024 }
const NEWLINE = 10
/** Ends the rows of a table (PostgreSQL 18, COPY, text format). */
const END_OF_ROWS = Buffer.from('\\.\n')
const NO_ROW_END = Buffer.from('\n')

interface Copy {
  readonly rows: RowsArtifact
  readonly statement: string
}

interface Writing {
  readonly tools: PostgresTools
  readonly env: Readonly<Record<string, string>>
  readonly parallel: number
}

/**
 * Writes rows by psql, whose standard input is rows and nothing else: what a hostile backup holds is data to it, whatever it looks
 * like. Statements are arguments, several for small tables. Rows that pretend to be the end of their table become rows of the next
 * one, which then has too many. Gives the number of rows by part, as the server counted them.
 */
export async function restoreRows(
  artifacts: readonly RowsArtifact[],
  context: Writing,
  source: BackupSource,
  run: Run,
): Promise<Map<string, number>> {
  const counts = new Map<string, number>()
  const queue = batches([...artifacts].sort((a, b) => b.bytes - a.bytes).map((rows) => ({ rows, statement: statementOf(rows) })))
  const totalBytes = artifacts.reduce((sum, rows) => sum + rows.bytes, 0)
  run.progress({ phase: 'rows', objectsTotal: artifacts.length, totalBytes })
  await together(Math.min(context.parallel, queue.length), run, async (worker) => {
    for (let batch = queue.shift(); batch; batch = queue.shift()) {
      const written = await writeRows(batch, context, source, worker)
      batch.forEach(({ rows }, n) => {
        counts.set(rows.part, (counts.get(rows.part) ?? 0) + (written[n] ?? Number.NaN))
      })
      run.progress({ objectsDone: batch.length })
    }
  })
  return counts
}

/** Large tables alone, small ones together; the order stays. */
export function batches(copies: readonly Copy[]): Copy[][] {
  const made: Copy[][] = []
  let last = { tables: Number.POSITIVE_INFINITY, bytes: 0, statements: 0 }
  for (const copy of copies) {
    const next = {
      tables: last.tables + 1,
      bytes: last.bytes + copy.rows.bytes,
      statements: last.statements + copy.statement.length,
    }
    if (next.tables > BATCH.tables || next.bytes > BATCH.bytes || next.statements > BATCH.statements) {
      made.push([copy])
      last = { tables: 1, bytes: copy.rows.bytes, statements: copy.statement.length }
    } else {
      made.at(-1)?.push(copy)
      last = next
    }
  }
  return made
}

function statementOf(rows: RowsArtifact): string {
  const columns = rows.columns.map(asciiIdent).join(', ')
  const relation = `${asciiIdent(rows.load_schema)}.${asciiIdent(rows.load_table)}`
  const statement = `copy ${relation} ${columns === '' ? '' : `(${columns})`} from stdin (encoding '${rows.encoding}')`
  if (statement.length <= MAX_STATEMENT) return statement
  throw new HoldfastError('not_supported', `the names of the columns of ${rows.part.slice(0, 200)} are too long together`, {
    hint: 'Restore this table from its artifact with COPY by hand.',
  })
}

/** Gives the number of rows of each, in their order. */
async function writeRows(batch: readonly Copy[], context: Writing, source: BackupSource, run: Run): Promise<number[]> {
  const statements = batch.flatMap(({ statement }) => ['-c', statement])
  const psql = run.tools.start(context.tools.psql, ['-X', '-w', '-A', '-t', '-v', 'ON_ERROR_STOP=1', ...statements], {
    signal: run.signal,
    env: context.env,
    mapError: fromTool,
  })
  const said = { text: '' }
  const heard = listen(psql.stdout as AsyncIterable<Buffer>, said)
  try {
    if (!(await psql.feed(rowsOf(batch, source, run)))) throw invalid('has rows after the end of its tables')
    await psql.done
    await heard
  } catch (error) {
    await heard
    throw ofTable(error, batch, tagsIn(said.text).length)
  }
  return tagsIn(said.text)
}

async function* rowsOf(batch: readonly Copy[], source: BackupSource, run: Run): AsyncGenerator<Buffer> {
  for (const { rows } of batch) {
    let last = NEWLINE
    for await (const piece of source.openStream(rows.artifact)) {
      if (piece.length === 0) continue
      last = piece[piece.length - 1] ?? NEWLINE
      const { length } = piece
      yield piece
      run.progress({ writtenBytes: length })
    }
    if (batch.length === 1) return
    // of a last row that nothing ends, the end of the table would be a part
    if (last !== NEWLINE) yield NO_ROW_END
    yield END_OF_ROWS
  }
}

/** An error of psql's own with the table at which it stopped; those before it have been counted. */
function ofTable(failure: unknown, batch: readonly Copy[], counted: number): unknown {
  if (!isHoldfastError(failure) || typeof failure.context?.status !== 'number') return failure
  const part = batch[Math.min(counted, batch.length - 1)]?.rows.part.slice(0, 200)
  const { code, hint, context, retry } = failure
  return new HoldfastError(code, `rows of ${part}: ${failure.message}`, {
    hint,
    context: { ...context, part },
    retry,
    cause: failure,
  })
}

const tagsIn = (said: string): number[] => [...said.matchAll(/^COPY (\d+)$/gm)].map(([, rows]) => Number(rows))

/** Settles when all was heard, whatever becomes of psql: its end is told by `done`. */
async function listen(stream: AsyncIterable<Buffer>, said: { text: string }): Promise<void> {
  try {
    for await (const piece of stream) said.text = (said.text + piece.toString('utf8')).slice(-16 * 1024)
  } catch (error) {
    said.text += `\n${String(error)}`
  }
}
