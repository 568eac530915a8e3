import { asc, eq, sql } from 'drizzle-orm'
import type { z } from 'zod'
import { HoldfastError } from '../../shared/errors.ts'
import { requireName } from '../../shared/ids.ts'
import { policySchema } from '../domain/policy.ts'
import type { Db } from './catalog.ts'
import { CHANNELS } from './channels.ts'
import { type occurrences, policies, targets } from './schema/schema.ts'
import { notifyIn } from './sql.ts'

export type PolicyRow = typeof policies.$inferSelect
export type TargetRow = typeof targets.$inferSelect
export type OccurrenceRow = typeof occurrences.$inferSelect

export async function listPolicies(db: Db): Promise<PolicyRow[]> {
  return await db.select().from(policies).orderBy(asc(policies.name))
}

export async function getPolicy(db: Db, name: string): Promise<PolicyRow> {
  const [row] = await db.select().from(policies).where(eq(policies.name, name))
  if (!row) throw new HoldfastError('not_found', `policy ${JSON.stringify(name)} is not known`)
  return row
}

/** Kept with units resolved. Each change counts the revision up. */
export async function putPolicy(db: Db, name: string, policy: z.input<typeof policySchema>, now: Date): Promise<PolicyRow> {
  const spec = policySchema.parse(policy)
  return await db.transaction(async (tx) => {
    const [row] = await tx
      .insert(policies)
      .values({ name: requireName('policy name', name), spec, revision: 1, createdAt: now, updatedAt: now, scheduleSince: now })
      .onConflictDoUpdate({
        target: policies.name,
        set: {
          spec,
          revision: sql`${policies.revision} + 1`,
          updatedAt: now,
          scheduleSince: sql`case when ${policies.spec} -> 'schedule' is distinct from excluded.spec -> 'schedule' then excluded.schedule_since else ${policies.scheduleSince} end`,
        },
      })
      .returning()
    await notifyIn(tx, CHANNELS.protection, `policy ${name}`)
    if (!row) throw new HoldfastError('internal', `policy ${name} was not written`)
    return row
  })
}

export async function deletePolicy(db: Db, name: string): Promise<boolean> {
  return await db.transaction(async (tx) => {
    const rows = await tx.delete(policies).where(eq(policies.name, name)).returning({ name: policies.name })
    if (rows.length > 0) await notifyIn(tx, CHANNELS.protection, `policy ${name}`)
    return rows.length > 0
  })
}

export async function listTargets(db: Db): Promise<TargetRow[]> {
  return await db.select().from(targets).orderBy(asc(targets.name))
}

export async function getTarget(db: Db, name: string): Promise<TargetRow> {
  const [row] = await db.select().from(targets).where(eq(targets.name, name))
  if (!row) throw new HoldfastError('not_found', `target ${JSON.stringify(name)} is not known`)
  return row
}

export interface NewTarget {
  readonly name: string
  readonly kind: string
  /** Never credentials. */
  readonly config: Record<string, unknown>
  readonly facts?: Record<string, unknown> | null
  readonly probedAt?: Date | null
}

export async function putTarget(db: Db, target: NewTarget, now: Date): Promise<TargetRow> {
  return await db.transaction(async (tx) => {
    const { name, kind, config } = target
    const set = { kind, config, facts: target.facts ?? null, probedAt: target.probedAt ?? null }
    const [row] = await tx
      .insert(targets)
      .values({ name: requireName('target name', name), createdAt: now, ...set })
      .onConflictDoUpdate({ target: targets.name, set })
      .returning()
    await notifyIn(tx, CHANNELS.protection, `target ${name}`)
    if (!row) throw new HoldfastError('internal', `target ${name} was not written`)
    return row
  })
}

/** Throws `conflict` while backups that are not removed lie on it. */
export async function deleteTarget(db: Db, name: string): Promise<boolean> {
  return await db.transaction(async (tx) => {
    const result = await tx
      .delete(targets)
      .where(
        sql`${targets.name} = ${name} and not exists (select 1 from copies where copies.target = ${targets.name} and copies.state <> 'removed')`,
      )
      .returning({ name: targets.name })
    if (result.length > 0) await notifyIn(tx, CHANNELS.protection, `target ${name}`)
    else if ((await tx.select().from(targets).where(eq(targets.name, name))).length > 0) {
      throw new HoldfastError('conflict', `target ${name} still holds backups`, {
        hint: 'Remove the backups on it first, or keep the target.',
      })
    }
    return result.length > 0
  })
}
