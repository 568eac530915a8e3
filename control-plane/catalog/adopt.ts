import { and, asc, desc, eq, inArray, isNull, sql } from 'drizzle-orm'
import { randomBase32 } from '../../shared/ids.ts'
import type { Manifest } from '../../shared/manifest/manifest.ts'
import { setLeans } from './backups.ts'
import type { Db } from './catalog.ts'
import { markDamaged } from './ledger.ts'
import { agents, backups, copies, objects, sources } from './schema/schema.ts'

/** A manifest found on a target, its signatures checked by the caller. */
export interface FoundManifest {
  readonly manifest: Manifest
  /** As stored. */
  readonly bytes: Buffer
  readonly sha256: Buffer
  readonly target: string
  /** A key file is there. A manifest without one reads as deleted: its removal had begun. */
  readonly keys: boolean
}

/**
 * Believes a manifest: its backup is good, unless the catalog knows that it failed or was marked for removal, or its keys are gone. Not
 * valid yet: that is for a validation to say. A failed or removed one that lies there again is to be removed again. May be repeated,
 * also for a second target. Leans come after all manifests are in (`adoptLeans`).
 */
export async function adoptBackup(db: Db, found: FoundManifest): Promise<void> {
  const { facts, commit } = found.manifest
  await db.transaction(async (tx) => {
    const sourceId = await sourceOf(tx, facts, new Date(commit.committed_at))
    const said = {
      type: facts.type,
      sizeBytes: facts.read_bytes,
      storedBytes: facts.stored_bytes,
      totalCount: facts.total_count,
      sequence: commit.sequence,
      attempt: facts.attempt,
      manifest: found.bytes,
      manifestSha256: found.sha256,
      committedAt: new Date(commit.committed_at),
      recipients: facts.recipients,
      ...(found.keys ? {} : { valid: false }),
    }
    const copy = found.keys ? ({ state: 'good', goodAt: said.committedAt } as const) : ({ state: 'damaged' } as const)
    const committed = found.keys ? 'good' : 'failed'
    await tx
      .insert(backups)
      .values({
        ...said,
        id: facts.id,
        sourceId,
        host: facts.host,
        source: facts.source,
        engine: facts.engine,
        status: found.keys ? 'good' : 'expired',
        target: found.target,
        createdAt: timeOf(facts.id),
        finishedAt: said.committedAt,
        // what leans on it still says so; with nothing that does, retention removes what is left
        ...(found.keys ? {} : { retiredAt: said.committedAt }),
      })
      .onConflictDoUpdate({
        target: backups.id,
        set: {
          ...said,
          status: sql`case when ${backups.status} = 'running' then ${committed} else ${backups.status} end`,
          withdrawnAt: null,
          removedAt: null,
          finishedAt: sql`coalesce(${backups.finishedAt}, excluded.finished_at)`,
        },
      })
    await tx
      .insert(copies)
      .values({ backupId: facts.id, target: found.target, ...copy })
      .onConflictDoUpdate({
        target: [copies.backupId, copies.target],
        set: copy,
        setWhere: eq(copies.state, 'writing'),
      })
    await adoptObjects(tx, found)
    if (!found.keys)
      await markDamaged(
        tx,
        facts.id,
        facts.keys.map((key) => key.name),
        said.committedAt,
      )
    await tx
      .update(sources)
      .set({ sequence: sql`greatest(${sources.sequence}, ${commit.sequence}::int)` })
      .where(eq(sources.id, sourceId))
  })
}

async function adoptObjects(tx: Db, { manifest: { facts, commit } }: FoundManifest): Promise<void> {
  const committedAt = new Date(commit.committed_at)
  const rows = facts.objects.map((object) => ({
    backupId: facts.id,
    name: object.name,
    attempt: facts.attempt,
    size: object.size,
    sha256: Buffer.from(object.sha256, 'hex'),
    addressExpiresAt: committedAt,
    confirmedAt: committedAt,
  }))
  for (let from = 0; from < rows.length; from += 5000)
    await tx
      .insert(objects)
      .values(rows.slice(from, from + 5000))
      .onConflictDoNothing()
}

/** Of a source that no agent has reported, the host stands as an agent that was replaced: its name is free to join again. */
async function sourceOf(tx: Db, facts: Manifest['facts'], seenAt: Date): Promise<string> {
  const named = and(eq(sources.host, facts.host), eq(sources.name, facts.source))
  const [known] = await tx.select({ id: sources.id }).from(sources).where(named)
  if (known) return known.id
  const [agent] = await tx.select({ id: agents.id }).from(agents).where(eq(agents.name, facts.host)).limit(1)
  const agentId = agent?.id ?? `a${randomBase32(15)}`
  if (!agent) {
    const row = {
      id: agentId,
      name: facts.host,
      state: 'replaced',
      stateReason: 'known from its backups only',
      ageRecipient: '',
    } as const
    await tx.insert(agents).values({ ...row, createdAt: seenAt })
  }
  const id = `s${randomBase32(15)}`
  const { host, source: name, engine } = facts
  await tx.insert(sources).values({ id, agentId, host, name, engine, present: false, createdAt: seenAt, lastSeenAt: seenAt })
  return id
}

/**
 * What the backup leans on, as its manifest says. Returns the ids that are not there or, of those in `keyless`, cannot be opened: with
 * any, it cannot be restored and is not valid.
 */
export async function adoptLeans(
  db: Db,
  { manifest: { facts } }: FoundManifest,
  keyless: ReadonlySet<string> = new Set(),
): Promise<string[]> {
  const wanted = facts.leans_on.map((lean) => lean.id)
  return await db.transaction(async (tx) => {
    const [backup] = await tx.select({ status: backups.status }).from(backups).where(eq(backups.id, facts.id)).for('update')
    if (backup?.status !== 'good') return []
    const there = wanted.length === 0 ? [] : await tx.select({ id: backups.id }).from(backups).where(inArray(backups.id, wanted))
    const known = new Set(there.map((row) => row.id))
    await setLeans(tx, facts.id, [...known])
    const missing = wanted.filter((id) => !known.has(id) || keyless.has(id))
    if (missing.length > 0) await tx.update(backups).set({ valid: false }).where(eq(backups.id, facts.id))
    return missing
  })
}

/** Marks good backups of which no manifest was found as not valid, and returns them: nothing leans on them (plan-backup.ts). */
export async function invalidateUnfound(db: Db): Promise<Array<{ id: string; host: string; source: string; target: string }>> {
  return await db
    .update(backups)
    .set({ valid: false })
    .where(and(eq(backups.status, 'good'), isNull(backups.manifest)))
    .returning({ id: backups.id, host: backups.host, source: backups.source, target: backups.target })
}

/**
 * Newest backups of their sources of which nobody has said that they are valid: the job of such a one may have failed in the moment in
 * which the catalog was lost. Older ones are out of doubt, since no two runs of one source overlap.
 */
export async function unvalidatedNewest(db: Db): Promise<Array<{ id: string; sourceId: string; agentId: string }>> {
  const rows = await db
    .selectDistinctOn([backups.sourceId], {
      id: backups.id,
      valid: backups.valid,
      sourceId: backups.sourceId,
      agentId: sources.agentId,
    })
    .from(backups)
    .innerJoin(sources, eq(sources.id, backups.sourceId))
    .where(eq(backups.status, 'good'))
    .orderBy(asc(backups.sourceId), desc(backups.sequence))
  return rows.filter((row) => row.valid === null)
}

/** The newest good backup of each source, by `host/source`: where a history of manifests has to end. */
export async function latestManifests(db: Db): Promise<Map<string, { sequence: number; sha256: string }>> {
  const rows = await db
    .select({ host: backups.host, source: backups.source, sequence: backups.sequence, sha256: backups.manifestSha256 })
    .from(backups)
    .where(eq(backups.status, 'good'))
    .orderBy(asc(backups.sequence))
  const latest = new Map<string, { sequence: number; sha256: string }>()
  for (const { host, source, sequence, sha256 } of rows) {
    if (sequence !== null && sha256) latest.set(`${host}/${source}`, { sequence, sha256: sha256.toString('hex') })
  }
  return latest
}

/** The control plane's time out of `YYYYMMDDTHHMMSSZ-...`. */
function timeOf(id: string): Date {
  const [, year, month, day, hour, minute, second] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z/.exec(id) ?? []
  return new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`)
}
