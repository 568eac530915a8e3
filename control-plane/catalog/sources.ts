import { and, asc, type Column, eq, isNull, like, notInArray, or, type SQL, sql } from 'drizzle-orm'
import { HoldfastError } from '../../shared/errors.ts'
import { parseSourceName, randomBase32, requireName } from '../../shared/ids.ts'
import type { Db } from './catalog.ts'
import { agents, sources } from './schema/schema.ts'
import { storableJson } from './text.ts'

export type SourceRow = typeof sources.$inferSelect

export interface ReportedSource {
  readonly name: string
  readonly engine: string
  readonly labels: Record<string, string>
  readonly facts: Record<string, string>
}

/**
 * What the agent says it can back up, all of it. A source no longer named keeps its row and its backups and is not present. A
 * host that was replaced gives its sources to the new agent of that name: the backups are the name's.
 */
export async function syncSources(db: Db, agentId: string, reported: readonly ReportedSource[], now: Date): Promise<SourceRow[]> {
  return await db.transaction(async (tx) => {
    const [agent] = await tx.select({ name: agents.name }).from(agents).where(eq(agents.id, agentId)).for('update')
    if (!agent) throw new HoldfastError('not_found', `agent ${agentId} is not known`)
    const rows: SourceRow[] = []
    for (const source of reported) {
      const said = {
        agentId,
        engine: source.engine,
        labels: storableJson(source.labels, 1000),
        facts: storableJson(source.facts, 1000),
        present: true,
        lastSeenAt: now,
      }
      const [row] = await tx
        .insert(sources)
        .values({
          id: `s${randomBase32(15)}`,
          host: agent.name,
          name: requireName('source name', source.name),
          createdAt: now,
          ...said,
        })
        .onConflictDoUpdate({ target: [sources.host, sources.name], set: said })
        .returning()
      if (row) rows.push(row)
    }
    const gone = and(
      eq(sources.agentId, agentId),
      notInArray(
        sources.id,
        rows.map((row) => row.id),
      ),
    )
    await tx.update(sources).set({ present: false }).where(gone)
    return rows
  })
}

/** By `host/name`; throws `not_found`. */
export async function findSource(db: Db, fullName: string): Promise<SourceRow> {
  const { host, name } = parseSourceName(fullName)
  const [row] = await db
    .select()
    .from(sources)
    .where(and(eq(sources.host, host), eq(sources.name, name)))
  if (row) return row
  throw new HoldfastError('not_found', `source ${fullName} is not known`, {
    hint: 'List the sources with "holdfast sources"; a host shows its sources once its agent has connected.',
  })
}

export async function getSource(db: Db, id: string): Promise<SourceRow> {
  const [row] = await db.select().from(sources).where(eq(sources.id, id))
  if (!row) throw new HoldfastError('not_found', `source ${id} is not known`)
  return row
}

export async function listSources(db: Db, filter: { agentId?: string; present?: boolean } = {}): Promise<SourceRow[]> {
  return await db
    .select()
    .from(sources)
    .where(
      and(
        filter.agentId === undefined ? undefined : eq(sources.agentId, filter.agentId),
        filter.present === undefined ? undefined : eq(sources.present, filter.present),
      ),
    )
    .orderBy(asc(sources.host), asc(sources.name))
}

/** Until now, what fell in size or counts is as it should be: retention goes on. */
export async function acceptFall(db: Db, sourceId: string, now: Date): Promise<void> {
  await db.update(sources).set({ fallAcceptedAt: now }).where(eq(sources.id, sourceId))
}

export const fullName = (row: { host: string; name: string }): string => `${row.host}/${row.name}`
export const sourceFullName = sql<string>`${sources.host} || '/' || ${sources.name}`

/** SQL of domain/source-pattern.ts over columns of host and name: no pattern selects all. */
export function selectedBy(patterns: readonly string[], host: Column, name: Column): SQL | undefined {
  if (patterns.length === 0) return undefined
  return or(
    ...patterns.map((pattern) => {
      const [hostPattern = '', namePattern = ''] = pattern.split('/')
      return and(like(host, likeOf(hostPattern)), like(name, likeOf(namePattern)))
    }),
  )
}

/** The same over a column of `host/name`, both of which hold one "/": a `%` cannot reach over it. No place is selected by all. */
export function placeSelectedBy(patterns: readonly string[], place: Column): SQL | undefined {
  if (patterns.length === 0) return undefined
  return or(isNull(place), ...patterns.map((pattern) => like(place, likeOf(pattern))))
}

/** Of what may stand in a pattern only `_` and `*` mean something to LIKE or to us. */
const likeOf = (pattern: string): string => pattern.replaceAll('_', '\\_').replaceAll('*', '%')
