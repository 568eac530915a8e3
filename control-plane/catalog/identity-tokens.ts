import { and, eq, isNull, lt } from 'drizzle-orm'
import type { Db } from './catalog.ts'
import { enrolmentTokens, renewalNonces } from './schema/identity.ts'

export type TokenRow = typeof enrolmentTokens.$inferSelect

export async function insertToken(
  tx: Db,
  row: Pick<TokenRow, 'id' | 'tokenSha256' | 'name' | 'replace' | 'createdBy' | 'createdAt' | 'expiresAt'>,
): Promise<void> {
  await tx.insert(enrolmentTokens).values(row)
}

export async function tokenByHash(db: Db, tokenSha256: Buffer): Promise<TokenRow | null> {
  return (await db.select().from(enrolmentTokens).where(eq(enrolmentTokens.tokenSha256, tokenSha256)))[0] ?? null
}

/** Of two enrolments with one token the second waits here and then sees what the first did. */
export async function lockToken(tx: Db, id: string): Promise<TokenRow | null> {
  return (await tx.select().from(enrolmentTokens).where(eq(enrolmentTokens.id, id)).for('update'))[0] ?? null
}

export async function markTokenUsed(
  tx: Db,
  id: string,
  used: { at: Date; publicKeySha256: Buffer; agentId: string; certificateSerial: string },
): Promise<void> {
  await tx
    .update(enrolmentTokens)
    .set({
      usedAt: used.at,
      publicKeySha256: used.publicKeySha256,
      agentId: used.agentId,
      certificateSerial: used.certificateSerial,
    })
    .where(eq(enrolmentTokens.id, id))
}

export async function insertNonce(
  tx: Db,
  row: { nonceSha256: Buffer; certificateSerial: string; expiresAt: Date; now: Date },
): Promise<void> {
  // what nobody came back for is swept here, so that asking for nonces does not grow the catalog
  await tx.delete(renewalNonces).where(lt(renewalNonces.expiresAt, row.now))
  await tx.insert(renewalNonces).values({
    nonceSha256: row.nonceSha256,
    certificateSerial: row.certificateSerial,
    expiresAt: row.expiresAt,
  })
}

/** True once: for a nonce that was given for this certificate, has not expired and was not used. */
export async function useNonce(db: Db, nonce: { sha256: Buffer; certificateSerial: string; now: Date }): Promise<boolean> {
  const rows = await db
    .update(renewalNonces)
    .set({ usedAt: nonce.now })
    .where(
      and(
        eq(renewalNonces.nonceSha256, nonce.sha256),
        eq(renewalNonces.certificateSerial, nonce.certificateSerial),
        isNull(renewalNonces.usedAt),
      ),
    )
    .returning({ expiresAt: renewalNonces.expiresAt })
  return rows[0] !== undefined && rows[0].expiresAt >= nonce.now
}
