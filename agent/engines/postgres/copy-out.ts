import type { ArtifactMeta, BackupSink } from '../../../shared/artifacts.ts'
import { isHoldfastError } from '../../../shared/errors.ts'
import type { Run } from '../engine.ts'
import type { Session, Sessions } from './session.ts'
import { joinSnapshot } from './snapshot.ts'

/** A session that reads tables at the snapshot, one after the other. */
export interface RowReader {
  /**
   * Locks a table for the reads that follow; false when someone waits to have it for himself: waiting behind him would never end, since he
   * waits for the lock of our own first session.
   */
  lock(relation: string): Promise<boolean>
  /** Reads what `query` (a COPY ... TO STDOUT) gives: the number of rows. */
  read(query: string, meta: ArtifactMeta, sink: BackupSink): Promise<number>
}

const LOCK_NOT_AVAILABLE = '55P03'

/** For as long as `work` takes. Ends at once, in the middle of a row, when the run does. */
export async function withRowReader(
  sessions: Sessions,
  snapshotId: string,
  run: Run,
  work: (reader: RowReader) => Promise<void>,
): Promise<void> {
  run.signal.throwIfAborted()
  const session = await sessions.open()
  const onAbort = () => session.cut()
  run.signal.addEventListener('abort', onAbort, { once: true })
  try {
    await session.run(joinSnapshot(snapshotId))
    await work({
      lock: (relation) => lock(session, relation),
      read: (query, meta, sink) => copyOut(session, query, meta, sink),
    })
    await session.run('commit')
    await session.close()
  } finally {
    run.signal.removeEventListener('abort', onAbort)
  }
}

/** What the session reads, into the sink: the number of rows. */
export async function copyOut(session: Session, query: string, meta: ArtifactMeta, sink: BackupSink): Promise<number> {
  let rows = 0
  const counted = (came: number) => {
    rows = came
  }
  await sink.stream(meta, session.copyOut(query, counted))
  return rows
}

async function lock(session: Session, relation: string): Promise<boolean> {
  try {
    await session.run(`savepoint taken; lock table only ${relation} in access share mode nowait; release savepoint taken`)
    return true
  } catch (error) {
    if (!isHoldfastError(error) || error.context?.state !== LOCK_NOT_AVAILABLE) throw error
    await session.run('rollback to savepoint taken; release savepoint taken')
    return false
  }
}
