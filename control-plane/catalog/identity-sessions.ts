import { and, eq, gte, isNull, lt, ne, or, sql } from 'drizzle-orm'
import { HoldfastError } from '../../shared/errors.ts'
import type { Db } from './catalog.ts'
import { agoByCatalog } from './identity-instances.ts'
import { agents, certificates, instances, sessions } from './schema/identity.ts'

/** Which control plane holds the stream of which agent. An epoch orders the streams of one agent; older ones may write nothing. */

export type SessionRow = typeof sessions.$inferSelect

export interface EpochHolder {
  readonly agentId: string
  readonly epoch: number
}

/**
 * Takes the next epoch of the agent: from the commit on, writes by older epochs are refused. Run in a transaction. Null when
 * the agent may have no stream (gone, suspended, revoked).
 */
export async function openSession(
  tx: Db,
  session: { agentId: string; instanceId: string; agentInstance: string; certificateSerial: string; now: Date },
): Promise<number | null> {
  const rows = await tx
    .update(agents)
    .set({ sessionEpoch: sql`${agents.sessionEpoch} + 1`, lastSeenAt: session.now })
    .where(and(eq(agents.id, session.agentId), eq(agents.state, 'active')))
    .returning({ epoch: agents.sessionEpoch })
  const epoch = rows[0]?.epoch
  if (epoch === undefined) return null
  await tx
    .update(sessions)
    .set({ endedAt: session.now, endReason: 'replaced' })
    .where(and(eq(sessions.agentId, session.agentId), isNull(sessions.endedAt)))
  await tx.insert(sessions).values({
    agentId: session.agentId,
    epoch,
    instanceId: session.instanceId,
    agentInstance: session.agentInstance,
    certificateSerial: session.certificateSerial,
    connectedAt: session.now,
    heartbeatAt: session.now,
  })
  return epoch
}

/**
 * First statement of every write that a stream's message causes, in the same transaction: throws `session_superseded`
 * unless the epoch is the agent's newest, and lets no newer one be given before the transaction ends.
 */
export async function requireCurrentEpoch(tx: Db, holder: EpochHolder): Promise<void> {
  const rows = await tx
    .select({ epoch: agents.sessionEpoch, state: agents.state })
    .from(agents)
    .where(eq(agents.id, holder.agentId))
    .for('share')
  const row = rows[0]
  if (row && row.epoch === holder.epoch && row.state === 'active') return
  throw new HoldfastError(
    'session_superseded',
    `stream ${holder.epoch} of agent ${holder.agentId} is no longer its current one`,
    {
      context: { epoch: holder.epoch, current: row?.epoch ?? null },
    },
  )
}

export async function endSession(db: Db, holder: EpochHolder, reason: string, now: Date): Promise<void> {
  await db
    .update(sessions)
    .set({ endedAt: now, endReason: reason })
    .where(and(eq(sessions.agentId, holder.agentId), eq(sessions.epoch, holder.epoch), isNull(sessions.endedAt)))
}

/** Notes that these streams of an instance were heard from. One statement, however many. */
export async function beatSessions(db: Db, instanceId: string, heard: readonly EpochHolder[], now: Date): Promise<void> {
  if (heard.length === 0) return
  const list = JSON.stringify(heard.map(({ agentId, epoch }) => ({ agent_id: agentId, epoch })))
  const at = now.toISOString()
  await db.execute(sql`
    with heard as (select * from jsonb_to_recordset(${list}::jsonb) as h(agent_id text, epoch bigint)),
    beaten as (
      update sessions s set heartbeat_at = ${at}::timestamptz from heard
      where s.agent_id = heard.agent_id and s.epoch = heard.epoch and s.instance_id = ${instanceId} and s.ended_at is null
      returning s.agent_id
    )
    update agents a set last_seen_at = ${at}::timestamptz from beaten where a.id = beaten.agent_id`)
}

export type EndCause = 'revoked' | 'suspended' | 'replaced'

/** Streams of an instance that must end: another epoch was given, the agent is not active, or its certificate was revoked. */
export async function sessionsToEnd(db: Db, instanceId: string): Promise<Array<EpochHolder & { cause: EndCause }>> {
  const rows = await db
    .select({
      agentId: sessions.agentId,
      epoch: sessions.epoch,
      current: agents.sessionEpoch,
      state: agents.state,
    })
    .from(sessions)
    .innerJoin(agents, eq(agents.id, sessions.agentId))
    .innerJoin(certificates, eq(certificates.serial, sessions.certificateSerial))
    .where(
      and(
        eq(sessions.instanceId, instanceId),
        isNull(sessions.endedAt),
        or(ne(agents.state, 'active'), sql`${certificates.revokedAt} is not null`, lt(sessions.epoch, agents.sessionEpoch)),
      ),
    )
  return rows.map((row) => ({
    agentId: row.agentId,
    epoch: row.epoch,
    cause: row.epoch < row.current ? 'replaced' : row.state === 'suspended' ? 'suspended' : 'revoked',
  }))
}

/** Epochs of the given agents, to find streams whose row was ended elsewhere. */
export async function openSessionsOf(db: Db, instanceId: string): Promise<EpochHolder[]> {
  return db
    .select({ agentId: sessions.agentId, epoch: sessions.epoch })
    .from(sessions)
    .where(and(eq(sessions.instanceId, instanceId), isNull(sessions.endedAt)))
}

/** Where the agent's stream is, or null. */
export async function openSessionOfAgent(db: Db, agentId: string): Promise<SessionRow | null> {
  const rows = await db
    .select()
    .from(sessions)
    .where(and(eq(sessions.agentId, agentId), isNull(sessions.endedAt)))
  return rows[0] ?? null
}

/** Ids of the agents that have an open stream on a live instance. */
export async function connectedAgents(db: Db, deadAfterMs: number): Promise<Set<string>> {
  const rows = await db
    .select({ agentId: sessions.agentId })
    .from(sessions)
    .innerJoin(instances, eq(instances.id, sessions.instanceId))
    .where(and(isNull(sessions.endedAt), gte(instances.heartbeatAt, agoByCatalog(deadAfterMs))))
  return new Set(rows.map((row) => row.agentId))
}

/** Streams that a dead control plane left open. Returns how many. */
export async function endSessionsOfDeadInstances(db: Db, options: { deadAfterMs: number; now: Date }): Promise<number> {
  const dead = await db
    .update(sessions)
    .set({ endedAt: options.now, endReason: 'control plane gone' })
    .where(
      and(
        isNull(sessions.endedAt),
        sql`not exists (select 1 from ${instances} where ${instances.id} = ${sessions.instanceId}
          and ${instances.heartbeatAt} >= ${agoByCatalog(options.deadAfterMs)})`,
      ),
    )
    .returning({ agentId: sessions.agentId })
  return dead.length
}
