import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import path from 'node:path'
import type { ArtifactMeta, BackupSink } from '../../../shared/artifacts.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import type { RunningTool } from '../../process/tools.ts'
import type { Run } from '../engine.ts'
import { fromTool } from './errors.ts'
import type { Fifos } from './fifos.ts'
import { linesOf } from './lines.ts'
import { joinSnapshot } from './snapshot.ts'
import type { PostgresTools } from './tools.ts'

/**
 * One psql that reads tables at the snapshot, one after the other, each into a named pipe that the sink reads by itself: the
 * bytes never pass through this thread. Opening the pipe is where the two meet; the pipe's size is the back-pressure.
 *
 * Statements are printable ASCII alone (asciiIdent says why) and hold no text of the server but names: psql would run
 * a backslash command that an extension's condition carried.
 */
export interface RowReader {
  /**
   * Locks a table (ASCII) for the reads that follow; false when someone waits to have it for himself: waiting behind him
   * would never end, since he waits for the lock of our own first session.
   */
  lock(relation: string): Promise<boolean>
  /** Reads what `query` (a COPY ... TO STDOUT) gives. The number of rows is that of the server's command tag. */
  read(query: string, meta: ArtifactMeta, sink: BackupSink): Promise<number>
  close(): Promise<void>
}

const MARK = 'rows'
const LOCKED = 'locked'
const LOCK_NOT_AVAILABLE = '55P03'

export function openRowReader(
  fifos: Fifos,
  snapshotId: string,
  tools: PostgresTools,
  env: Readonly<Record<string, string>>,
  run: Run,
): RowReader {
  const psql = run.tools.start(tools.psql, ['-X', '-q', '-w', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-f', '-'], {
    signal: run.signal,
    env,
    cwd: run.scratch,
    mapError: fromTool,
  })
  const lines = linesOf(psql.stdout as AsyncIterable<Buffer>)
  psql.stdin.write(`${joinSnapshot(snapshotId)};\n`)
  return {
    lock: async (relation) => {
      psql.stdin.write(
        `savepoint taken;\n\\set ON_ERROR_STOP 0\nlock table only ${relation} in access share mode nowait;\n` +
          `\\set busy :ERROR\n\\set state :SQLSTATE\n\\set ON_ERROR_STOP 1\n` +
          `\\if :busy\nrollback to savepoint taken;\n\\endif\nrelease savepoint taken;\n\\echo ${LOCKED} :state\n`,
      )
      const state = await nextAnswer(psql, lines, LOCKED)
      if (state === '00000') return true
      if (state === LOCK_NOT_AVAILABLE) return false
      throw new HoldfastError('source_changed', `a table could not be locked for reading (SQLSTATE ${state})`, {
        hint: 'See the log of the PostgreSQL server, then run the job again.',
      })
    },
    read: async (query, meta, sink) => {
      const name = await fifos.next()
      const fifo = path.join(run.scratch, name)
      const streamed = sink.stream(meta, { fifo })
      const counted = nextCount(psql, lines)
      // each is looked at again below; until then its failure is no unhandled one
      streamed.catch(() => undefined)
      counted.catch(() => undefined)
      psql.stdin.write(`${query} \\g ${name}\n\\echo ${MARK} :ROW_COUNT\n`)
      try {
        const [rows] = await Promise.all([counted, streamed])
        await fifos.remove(name)
        return rows
      } catch (error) {
        await psql.kill()
        await releaseReader(fifo, streamed, run)
        throw error
      }
    },
    close: async () => {
      psql.stdin.end('commit;\n')
      // nothing more is printed; the pipe has to be drained for `done`
      psql.stdout.resume()
      await psql.done
    },
  }
}

const nextCount = async (psql: RunningTool, lines: AsyncIterator<string>) => Number(await nextAnswer(psql, lines, MARK))

async function nextAnswer(psql: RunningTool, lines: AsyncIterator<string>, mark: string): Promise<string> {
  const { value, done } = await lines.next()
  if (done) {
    await psql.done
    throw new HoldfastError('tool_failed', 'psql ended before all tables were read', { hint: 'Run the job again.' })
  }
  const match = new RegExp(`^${mark} ([0-9A-Z]+)$`).exec(String(value))
  if (match) return match[1] ?? ''
  throw new HoldfastError('tool_failed', 'psql printed something else than what it was asked for', {
    hint: 'Run the job again; if it happens again, check that psql is the one that comes with PostgreSQL.',
  })
}

/** A reader that waits in open() for a writer that will never come is let go: opened for writing and closed, the pipe ends. */
async function releaseReader(fifo: string, streamed: Promise<unknown>, run: Run): Promise<void> {
  let settled = false
  const watched = streamed.then(
    () => undefined,
    () => undefined,
  )
  void watched.then(() => {
    settled = true
  })
  while (!settled) {
    try {
      const handle = await open(fifo, constants.O_WRONLY | constants.O_NONBLOCK)
      await handle.close()
    } catch (error) {
      // ENXIO: nobody reads there (any more, or yet)
      if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error
    }
    await Promise.race([watched, run.clock.sleep(20)])
  }
}
