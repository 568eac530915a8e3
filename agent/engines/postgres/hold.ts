import { createReadStream } from 'node:fs'
import path from 'node:path'
import { allEnded } from '../../../shared/all-ended.ts'
import { isHoldfastError } from '../../../shared/errors.ts'
import type { Run } from '../engine.ts'
import { dumpDefinitions, type Globals, type LargeObjectsDump, readGlobals, startLargeObjects } from './archives.ts'
import { countLargeObjects } from './count.ts'
import { readSequences, type SequenceState } from './sequences.ts'
import type { Server } from './server.ts'
import type { Session } from './session.ts'
import { type Snapshot, takeSnapshot } from './snapshot.ts'
import type { PostgresTools } from './tools.ts'

/** One moment of a database, held: the snapshot, and all that needs locks of its own has them. */
export interface Hold {
  readonly snapshot: Snapshot
  readonly sequences: readonly SequenceState[]
  readonly largeObjects: number
  readonly largeObjectsDump: LargeObjectsDump | null
  /** Not of the snapshot, which is of one database: as they are a moment later. */
  readonly globals: Globals
  /** The archive, from the job's own folder. */
  definitions(): AsyncIterable<Buffer>
}

export interface HoldContext {
  readonly session: Session
  readonly server: Server
  readonly tools: PostgresTools
  readonly env: Readonly<Record<string, string>>
  /** The server's database for administration. */
  readonly maintenance: string
  /** Whether large objects are wanted. */
  readonly whole: boolean
}

const ATTEMPTS = 10

/**
 * Whoever wants a table for himself after our lock (TRUNCATE, ALTER TABLE) queues behind it, and every later lock queues
 * behind him: a pg_dump started then would wait for ever, for a lock that waits for us. So everything that locks is begun
 * at once, with a limit, and what loses that race lets go of all and starts again. The definitions are small enough for files.
 */
export async function takeHold(context: HoldContext, run: Run): Promise<Hold> {
  for (let attempt = 1; ; attempt++) {
    run.signal.throwIfAborted()
    try {
      return await tryHold(context, run)
    } catch (error) {
      run.signal.throwIfAborted()
      const again = isHoldfastError(error, 'source_changed') || isHoldfastError(error, 'source_locked')
      if (!again || attempt === ATTEMPTS) throw error
      run.log.info({ attempt, err: error }, 'the snapshot was lost to a change of tables: taking it again')
      await context.session.run('rollback')
    }
  }
}

async function tryHold({ session, server, tools, env, maintenance, whole }: HoldContext, run: Run): Promise<Hold> {
  const snapshot = await takeSnapshot(session)
  const archive = { tools, major: server.major, snapshotId: snapshot.id, env }
  const file = path.join(run.scratch, 'definitions.archive')
  const [globals] = await allEnded([readGlobals(session, { tools, env, maintenance }, run), dumpDefinitions(file, archive, run)])
  const sequences: SequenceState[] = []
  for await (const state of readSequences(session)) sequences.push(state)
  const largeObjects = whole ? await countLargeObjects(session) : 0
  return {
    snapshot,
    sequences,
    largeObjects,
    globals,
    largeObjectsDump: largeObjects > 0 ? await startLargeObjects(archive, run) : null,
    definitions: () => createReadStream(file),
  }
}
