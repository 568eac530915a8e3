import { and, desc, eq, inArray, sql } from 'drizzle-orm'
import { HoldfastError } from '../../shared/errors.ts'
import type { Db } from './catalog.ts'
import { agents } from './schema/identity.ts'
import { isDuplicate } from './sql.ts'

export type AgentRow = typeof agents.$inferSelect
export type AgentState = AgentRow['state']

const IN_USE: AgentState[] = ['active', 'suspended']

/** Throws `already_exists` when an agent in use has the name. */
export async function insertAgent(
  tx: Db,
  agent: { id: string; name: string; ageRecipient: string; version: string; now: Date },
): Promise<void> {
  try {
    await tx.insert(agents).values({
      id: agent.id,
      name: agent.name,
      state: 'active',
      ageRecipient: agent.ageRecipient,
      version: agent.version,
      generation: 1,
      createdAt: agent.now,
    })
  } catch (error) {
    if (isDuplicate(error, 'agents_name_in_use')) throw nameInUse(agent.name)
    throw error
  }
}

export const nameInUse = (name: string) =>
  new HoldfastError('already_exists', `an agent named ${name} is enrolled`, {
    hint: 'Invite it with --replace: that revokes the identity it has now. Or choose another name.',
  })

export async function agentById(db: Db, id: string): Promise<AgentRow | null> {
  return (await db.select().from(agents).where(eq(agents.id, id)))[0] ?? null
}

/** The agent that has the name now; never a revoked or replaced one. */
export async function agentInUse(db: Db, name: string): Promise<AgentRow | null> {
  const rows = await db
    .select()
    .from(agents)
    .where(and(eq(agents.name, name), inArray(agents.state, IN_USE)))
  return rows[0] ?? null
}

/** By name, those in use first; with `all` also revoked and replaced ones. At most `limit`, after the row named by `after`. */
export async function listAgents(
  db: Db,
  options: { all: boolean; limit: number; after?: { name: string; id: string } },
): Promise<AgentRow[]> {
  const { all, limit, after } = options
  return db
    .select()
    .from(agents)
    .where(
      and(
        all ? undefined : inArray(agents.state, IN_USE),
        after ? sql`(${agents.name}, ${agents.id}) > (${after.name}, ${after.id})` : undefined,
      ),
    )
    .orderBy(agents.name, agents.id)
    .limit(limit)
}

/** Waits for whoever changes this agent, so that of two renewals or revocations one sees the other. */
export async function lockAgent(tx: Db, id: string): Promise<AgentRow | null> {
  return (await tx.select().from(agents).where(eq(agents.id, id)).for('update'))[0] ?? null
}

export async function setAgentState(tx: Db, id: string, state: AgentState, reason: string): Promise<void> {
  await tx.update(agents).set({ state, stateReason: reason }).where(eq(agents.id, id))
}

export async function setGeneration(tx: Db, id: string, generation: number): Promise<void> {
  await tx.update(agents).set({ generation }).where(eq(agents.id, id))
}

export interface AgentFacts {
  readonly version: string
  readonly os: string
  readonly arch: string
  readonly labels: Record<string, string>
  readonly ageRecipient: string
  readonly clockOffsetMs: number
  readonly now: Date
}

/** What the agent said of itself. The caller holds the epoch (identity-sessions.ts) in the same transaction. */
export async function noteAgentFacts(tx: Db, id: string, { now, ...facts }: AgentFacts): Promise<void> {
  await tx
    .update(agents)
    .set({ ...facts, lastSeenAt: now })
    .where(eq(agents.id, id))
}

/** A clock difference that an agent named outside a session. Not proven: shown, never acted on. */
export async function noteClockOffset(db: Db, id: string, clockOffsetMs: number): Promise<void> {
  await db.update(agents).set({ clockOffsetMs }).where(eq(agents.id, id))
}

/** The last agent that had the name, in whatever state: for answers about a revoked one. */
export async function lastAgentNamed(db: Db, name: string): Promise<AgentRow | null> {
  const rows = await db.select().from(agents).where(eq(agents.name, name)).orderBy(desc(agents.createdAt)).limit(1)
  return rows[0] ?? null
}
