import { and, desc, eq, inArray, isNotNull, isNull, like, ne, or } from 'drizzle-orm'
import { z } from 'zod'
import { readJson } from '../../shared/json.ts'
import { manifestOf } from './backups.ts'
import type { Db } from './catalog.ts'
import { backups, objects } from './schema/schema.ts'

/** What verifications remember of each pack, so that the next one can read others. */

export interface VerifiedPacks {
  readonly backupId: string
  readonly packs: ReadonlyArray<{ readonly name: string; readonly secondsAgo: number }>
}

/** Of one statement: PostgreSQL takes at most 65,535 parameters. */
const BATCH = 5000
/** Of one command. What is left out counts as never verified, and is only read once more. */
const MOST = 200_000

/**
 * Packs of these backups that were verified by another than the host that made them, or by this judge itself: what a host says of its own work
 * saves it from reading that again, and nobody else.
 */
export async function verifiedPacks(db: Db, backupIds: readonly string[], judge: string, now: Date): Promise<VerifiedPacks[]> {
  const rows = await db
    .select({ backupId: objects.backupId, name: objects.name, at: objects.verifiedAt })
    .from(objects)
    .innerJoin(backups, eq(backups.id, objects.backupId))
    .where(
      and(
        inArray(objects.backupId, [...backupIds]),
        isNotNull(objects.verifiedAt),
        like(objects.name, 'packs/%'),
        or(ne(objects.verifiedBy, backups.host), eq(objects.verifiedBy, judge)),
      ),
    )
    .orderBy(desc(objects.verifiedAt))
    .limit(MOST)
  const ago = (at: Date | null) => Math.max(0, Math.floor((now.getTime() - (at?.getTime() ?? 0)) / 1000))
  return [...Map.groupBy(rows, ({ backupId }) => backupId)].map(([backupId, of]) => ({
    backupId,
    packs: of.map(({ name, at }) => ({ name, secondsAgo: ago(at) })),
  }))
}

/**
 * The packs of a backup whose bits are set were read whole and are as they were stored. A host's word about its own backup does not take the place of
 * another's.
 */
export async function rememberVerified(
  tx: Db,
  backup: { readonly id: string; readonly host: string },
  bits: Buffer,
  found: { readonly by: string; readonly at: Date },
): Promise<void> {
  const names = (await objectNames(tx, backup.id)).filter(
    (name, number) => name.startsWith('packs/') && ((bits[number >> 3] ?? 0) >> (number & 7)) % 2 === 1,
  )
  const mine = or(isNull(objects.verifiedBy), eq(objects.verifiedBy, found.by))
  for (let from = 0; from < names.length; from += BATCH) {
    const part = and(eq(objects.backupId, backup.id), inArray(objects.name, names.slice(from, from + BATCH)))
    await tx
      .update(objects)
      .set({ verifiedAt: found.at, verifiedBy: found.by })
      .where(and(part, found.by === backup.host ? mine : undefined))
  }
}

const manifestNames = z.object({ facts: z.object({ objects: z.array(z.object({ name: z.string() })) }) })

/** In the order of the manifest, by which an agent numbers them. */
async function objectNames(tx: Db, backupId: string): Promise<string[]> {
  const manifest = await manifestOf(tx, backupId)
  const parsed = manifest && readJson(manifest.bytes, manifestNames)
  return parsed?.success ? parsed.data.facts.objects.map(({ name }) => name) : []
}
