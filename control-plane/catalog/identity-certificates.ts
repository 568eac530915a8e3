import { and, desc, eq, isNull, lt } from 'drizzle-orm'
import type { Db } from './catalog.ts'
import type { AgentState } from './identity-agents.ts'
import { agents, certificates } from './schema/identity.ts'

export type CertificateRow = typeof certificates.$inferSelect

export async function insertCertificate(tx: Db, row: Omit<CertificateRow, 'revokedAt' | 'revokedReason'>): Promise<void> {
  await tx.insert(certificates).values(row)
}

export interface PresentedCertificate extends CertificateRow {
  readonly agentName: string
  readonly agentState: AgentState
  readonly agentStateReason: string | null
  readonly agentRecipient: string
  /** The agent's newest generation. */
  readonly currentGeneration: number
}

/** The certificate with its agent; null when this authority's ledger has no such serial. */
export async function presentedCertificate(db: Db, serial: string): Promise<PresentedCertificate | null> {
  const rows = await db
    .select({ certificate: certificates, agent: agents })
    .from(certificates)
    .innerJoin(agents, eq(agents.id, certificates.agentId))
    .where(eq(certificates.serial, serial))
  const row = rows[0]
  if (!row) return null
  return {
    ...row.certificate,
    agentName: row.agent.name,
    agentState: row.agent.state,
    agentStateReason: row.agent.stateReason,
    agentRecipient: row.agent.ageRecipient,
    currentGeneration: row.agent.generation,
  }
}

export async function certificateOfGeneration(db: Db, agentId: string, generation: number): Promise<CertificateRow | null> {
  const rows = await db
    .select()
    .from(certificates)
    .where(and(eq(certificates.agentId, agentId), eq(certificates.generation, generation)))
  return rows[0] ?? null
}

export async function newestCertificate(db: Db, agentId: string): Promise<CertificateRow | null> {
  const rows = await db
    .select()
    .from(certificates)
    .where(eq(certificates.agentId, agentId))
    .orderBy(desc(certificates.generation))
    .limit(1)
  return rows[0] ?? null
}

/** All of an agent's, or those below a generation. Ones that are revoked already keep their reason. */
export async function revokeCertificates(
  tx: Db,
  agentId: string,
  options: { reason: string; now: Date; below?: number },
): Promise<void> {
  await tx
    .update(certificates)
    .set({ revokedAt: options.now, revokedReason: options.reason })
    .where(
      and(
        eq(certificates.agentId, agentId),
        isNull(certificates.revokedAt),
        options.below === undefined ? undefined : lt(certificates.generation, options.below),
      ),
    )
}
