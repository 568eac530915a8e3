import { eq } from 'drizzle-orm'
import type { Db } from './catalog.ts'
import { fleet, fleetKeys } from './schema/identity.ts'

export type FleetRow = typeof fleet.$inferSelect
export type FleetKeyRow = typeof fleetKeys.$inferSelect

/** Null before the first start. */
export async function readFleet(db: Db): Promise<{ fleet: FleetRow; keys: FleetKeyRow[] } | null> {
  const row = (await db.select().from(fleet).where(eq(fleet.row, 1)))[0]
  if (!row) return null
  return { fleet: row, keys: await db.select().from(fleetKeys).orderBy(fleetKeys.name) }
}

/** False when there is a fleet already: of two control planes that start at once on a new catalog, one makes it. */
export async function insertFleet(tx: Db, row: Omit<FleetRow, 'row'>, keys: readonly FleetKeyRow[]): Promise<boolean> {
  const made = await tx
    .insert(fleet)
    .values({ row: 1, ...row })
    .onConflictDoNothing()
    .returning({ row: fleet.row })
  if (made.length === 0) return false
  await tx.insert(fleetKeys).values([...keys])
  return true
}

/** The same secrets, sealed anew: to another key of the key service, or to other recovery recipients. */
export async function resealFleet(tx: Db, recoveryRecipients: string[], keys: readonly FleetKeyRow[]): Promise<void> {
  await tx.update(fleet).set({ recoveryRecipients }).where(eq(fleet.row, 1))
  for (const key of keys) {
    await tx
      .update(fleetKeys)
      .set({ protectedPart: key.protectedPart, recoveryPart: key.recoveryPart })
      .where(eq(fleetKeys.name, key.name))
  }
}
