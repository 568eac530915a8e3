import { pipeline } from 'node:stream/promises'
import type { BackupSource } from '../../../shared/artifacts.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Run } from '../engine.ts'
import type { RowsArtifact } from './artifacts.ts'
import { fromTool } from './errors.ts'
import { asciiIdent } from './quote.ts'
import { together } from './together.ts'
import type { PostgresTools } from './tools.ts'

/** Linux's limit of one argument is 128 KiB (MAX_ARG_STRLEN). */
const MAX_STATEMENT = 120 * 1024

/**
 * Writes rows by one psql a stream, whose standard input is the rows and nothing else: what a hostile backup holds is data
 * to it, whatever it looks like. Gives the number of rows by part, as the server counted them.
 */
export async function restoreRows(
  artifacts: readonly RowsArtifact[],
  context: { readonly tools: PostgresTools; readonly env: Readonly<Record<string, string>>; readonly parallel: number },
  source: BackupSource,
  run: Run,
): Promise<Map<string, number>> {
  const counts = new Map<string, number>()
  const queue = [...artifacts].sort((a, b) => b.bytes - a.bytes)
  run.progress({ phase: 'rows', objectsTotal: queue.length, totalBytes: queue.reduce((sum, rows) => sum + rows.bytes, 0) })
  await together(Math.min(context.parallel, queue.length), run, async (worker) => {
    for (let rows = queue.shift(); rows; rows = queue.shift()) {
      const written = await writeRows(rows, context, source, worker)
      counts.set(rows.part, (counts.get(rows.part) ?? 0) + written)
      run.progress({ objectsDone: 1 })
    }
  })
  return counts
}

async function writeRows(
  rows: RowsArtifact,
  context: { readonly tools: PostgresTools; readonly env: Readonly<Record<string, string>> },
  source: BackupSource,
  run: Run,
): Promise<number> {
  const columns = rows.columns.map(asciiIdent).join(', ')
  const relation = `${asciiIdent(rows.load_schema)}.${asciiIdent(rows.load_table)}`
  const statement = `copy ${relation} ${columns === '' ? '' : `(${columns})`} from stdin (encoding '${rows.encoding}')`
  if (statement.length > MAX_STATEMENT) {
    throw new HoldfastError('not_supported', `the names of the columns of ${rows.part.slice(0, 200)} are too long together`, {
      hint: 'Restore this table from its artifact with COPY by hand.',
    })
  }
  const psql = run.tools.start(context.tools.psql, ['-X', '-w', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-c', statement], {
    signal: run.signal,
    env: context.env,
    mapError: fromTool,
  })
  const said = textOf(psql.stdout as AsyncIterable<Buffer>)
  said.catch(() => undefined)
  try {
    await pipeline(metered(source.openStream(rows.artifact), run), psql.stdin)
  } catch (error) {
    // a psql that went away shows as a broken pipe here; its own words say more
    if ((error as NodeJS.ErrnoException).code === 'EPIPE') await psql.done
    // not ended but killed: the end of its input would commit the rows so far
    await psql.kill()
    throw error
  }
  await psql.done
  return Number(/^COPY (\d+)$/m.exec(await said)?.[1] ?? Number.NaN)
}

async function* metered(bytes: AsyncIterable<Buffer>, run: Run): AsyncGenerator<Buffer> {
  for await (const piece of bytes) {
    yield piece
    run.progress({ writtenBytes: piece.length })
  }
}

async function textOf(stream: AsyncIterable<Buffer>): Promise<string> {
  let text = ''
  for await (const piece of stream) text = (text + piece.toString('utf8')).slice(-4096)
  return text
}
