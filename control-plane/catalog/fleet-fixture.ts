import { eq, sql } from 'drizzle-orm'
import { randomBase32 } from '../../shared/ids.ts'
import type { Db } from './catalog.ts'
import { agents, sessions } from './schema/schema.ts'
import { type SourceRow, syncSources } from './sources.ts'

/** Rows that store suites stand on: an agent with an open stream and one source. Names are new each time. */
export interface TestHost {
  readonly agentId: string
  readonly host: string
  readonly source: SourceRow
  readonly instanceId: string
  epoch: number
}

export async function makeHost(db: Db, now: Date, instanceId = 'cp1'): Promise<TestHost> {
  const host = `h${randomBase32(8)}`
  const agentId = `a${randomBase32(15)}`
  await db.insert(agents).values({ id: agentId, name: host, state: 'active', ageRecipient: 'age1test', createdAt: now })
  const [source] = await syncSources(db, agentId, [{ name: 'app', engine: 'fake', labels: {}, facts: {} }], now)
  if (!source) throw new Error('no source')
  const made: TestHost = { agentId, host, source, instanceId, epoch: 0 }
  await connectHost(db, made, now)
  return made
}

/** A new stream of the agent: the epochs before it are superseded. */
export async function connectHost(db: Db, host: TestHost, now: Date, instanceId = host.instanceId): Promise<void> {
  const [row] = await db
    .update(agents)
    .set({ sessionEpoch: sql`${agents.sessionEpoch} + 1` })
    .where(eq(agents.id, host.agentId))
    .returning({ epoch: agents.sessionEpoch })
  host.epoch = row?.epoch ?? 0
  const times = { connectedAt: now, heartbeatAt: now }
  await db
    .insert(sessions)
    .values({ agentId: host.agentId, epoch: host.epoch, instanceId, agentInstance: 'i', certificateSerial: 's', ...times })
}
