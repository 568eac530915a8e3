import { and, eq, gte, lt, ne, type SQL, sql } from 'drizzle-orm'
import type { Db } from './catalog.ts'
import { instances } from './schema/identity.ts'

/**
 * Running control planes. Their heartbeats are times of the catalog's own clock, so that two control planes whose clocks differ
 * do not take each other for dead.
 */

export const agoByCatalog = (ms: number): SQL<Date> => sql`now() - make_interval(secs => ${ms / 1000})`

/** Also after a pause: an instance that was taken for dead stands again, and its streams are found ended. */
export async function beatInstance(db: Db, id: string): Promise<void> {
  await db
    .insert(instances)
    .values({ id, startedAt: sql`now()`, heartbeatAt: sql`now()` })
    .onConflictDoUpdate({ target: instances.id, set: { heartbeatAt: sql`now()` } })
}

export async function removeInstance(db: Db, id: string): Promise<void> {
  await db.delete(instances).where(eq(instances.id, id))
}

export async function liveInstances(db: Db, deadAfterMs: number): Promise<string[]> {
  const alive = gte(instances.heartbeatAt, agoByCatalog(deadAfterMs))
  const rows = await db.select({ id: instances.id }).from(instances).where(alive)
  return rows.map((row) => row.id)
}

export async function forgetDeadInstances(db: Db, own: string, deadAfterMs: number): Promise<void> {
  await db.delete(instances).where(and(lt(instances.heartbeatAt, agoByCatalog(deadAfterMs)), ne(instances.id, own)))
}
