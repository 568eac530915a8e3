import type { PostgresServer } from './postgres.ts'
import { waitFor } from './wait.ts'

/** One moment of a database, held open: what another program sees at its snapshot, for a second look at the same. */
export interface Moment {
  /** For `stableDump`. */
  readonly snapshot: string
  release(): Promise<void>
}

/**
 * Waits until some program exports a snapshot, as a backup does, and joins it: `snapshot` stays usable when that program has
 * ended. Call it before the program starts, since its snapshot may be short.
 */
export async function joinMoment(server: PostgresServer, database: string): Promise<Moment> {
  const sql = server.connect(database)
  const release = async () => {
    await sql.end({ timeout: 5 })
  }
  try {
    const snapshot = await waitFor('an exported snapshot', async () => joinFirst(server, sql), { everyMs: 2, timeoutMs: 120_000 })
    return { snapshot, release }
  } catch (error) {
    await release()
    throw error
  }
}

async function joinFirst(server: PostgresServer, sql: ReturnType<PostgresServer['connect']>): Promise<string | null> {
  const [exported] = await server.snapshots()
  if (!exported) return null
  try {
    await sql.unsafe('begin isolation level repeatable read, read only')
    await sql.unsafe(`set transaction snapshot '${exported}'`)
    const [row] = await sql.unsafe<{ id: string }[]>('select pg_export_snapshot() as id')
    return row?.id ?? null
  } catch (error) {
    await sql.unsafe('rollback')
    throw error
  }
}
