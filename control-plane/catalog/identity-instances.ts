import { and, eq, gte, lt, ne } from 'drizzle-orm'
import type { Db } from './catalog.ts'
import { instances } from './schema/identity.ts'

/** Running control planes. Their heartbeat is the clock of the one that writes it: differences below seconds mean nothing. */

/** Also after a pause: an instance that was taken for dead stands again, and its streams are found ended. */
export async function beatInstance(db: Db, id: string, now: Date): Promise<void> {
  await db
    .insert(instances)
    .values({ id, startedAt: now, heartbeatAt: now })
    .onConflictDoUpdate({ target: instances.id, set: { heartbeatAt: now } })
}

export async function removeInstance(db: Db, id: string): Promise<void> {
  await db.delete(instances).where(eq(instances.id, id))
}

export async function liveInstances(db: Db, aliveSince: Date): Promise<string[]> {
  const rows = await db.select({ id: instances.id }).from(instances).where(gte(instances.heartbeatAt, aliveSince))
  return rows.map((row) => row.id)
}

export async function forgetDeadInstances(db: Db, own: string, deadBefore: Date): Promise<void> {
  await db.delete(instances).where(and(lt(instances.heartbeatAt, deadBefore), ne(instances.id, own)))
}
