import type { BackupSource } from '../../../shared/artifacts.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import { invalid } from './artifacts.ts'
import { copyFields } from './dependencies.ts'
import { linesOf } from './lines.ts'
import { isNamed } from './tables.ts'

/** OIDs of the system catalogs themselves: fixed since they exist (src/include/catalog). */
export const CATALOG = { class: '1259', namespace: '2615', rewrite: '2618', type: '1247', default: '2604' } as const

/** An object of the source by catalog and OID: "1259 16388". */
type Key = string

interface Relation {
  readonly key: Key
  readonly part: string
  readonly schema: string
  readonly name: string
  readonly kind: string
}

/** What has to be restored for some parts. */
export interface Closure {
  /** The objects that the parts are, with all that belongs to them, and those that they need. */
  readonly keys: ReadonlySet<Key>
  /** "schema\0table" of everything that is restored with its rows or values. */
  readonly relations: ReadonlySet<string>
  /** For each constraint between tables: whether the other one is restored too. */
  holdsAll(key: Key): boolean
  /** Names of the relations in `keys`, as lists of archives show them: "schema name". */
  readonly listed: readonly string[]
}

export const relationKey = (schema: string, name: string) => `${schema}\0${name}`

interface Edge {
  readonly to: Key
  readonly kind: string
}

/**
 * Follows pg_depend. From what is chosen: everything that belongs to it (indexes, constraints, triggers, owned sequences,
 * partitions), and everything that those need. From what is only needed: its definition and what that needs, not its
 * indexes and triggers. Foreign keys to tables that are not restored are left out, by `holdsAll`.
 */
export async function closureOf(parts: readonly string[], source: BackupSource): Promise<Closure> {
  const relations = await readRelations(source)
  const seeds = seedsOf(parts, relations)
  const needs = new Map<Key, Edge[]>()
  const owned = new Map<Key, Edge[]>()
  for await (const [classid, objid, refclassid, refobjid, kind = ''] of lines(source, 'dependencies')) {
    const from = `${classid} ${objid}`
    const to = `${refclassid} ${refobjid}`
    if (from === to) continue
    push(needs, from, { to, kind })
    // what has a schema belongs to it, when the schema is what was chosen
    const bySchema = refclassid === CATALOG.namespace && kind === 'n'
    if (bySchema || 'aiPS'.includes(kind)) push(owned, to, { to: from, kind })
  }
  const chosen = new Set<Key>()
  const keys = new Set<Key>()
  const queue: Array<{ key: Key; chosen: boolean }> = seeds.map((key) => ({ key, chosen: true }))
  for (let next = queue.pop(); next; next = queue.pop()) {
    if (chosen.has(next.key) || (keys.has(next.key) && !next.chosen)) continue
    keys.add(next.key)
    if (next.chosen) chosen.add(next.key)
    for (const edge of owned.get(next.key) ?? []) {
      if (next.chosen) queue.push({ key: edge.to, chosen: true })
      else if (isDefinition(edge.to)) queue.push({ key: edge.to, chosen: false })
    }
    // a foreign key needs the other table, which is no reason to restore that
    if (next.key.startsWith('2606 ')) continue
    for (const edge of needs.get(next.key) ?? []) queue.push({ key: edge.to, chosen: false })
  }
  return {
    keys,
    relations: new Set(
      relations
        // a sequence that is only needed, by a default, goes on where it was
        .filter(({ key, kind }) => chosen.has(key) || (kind === 'S' && keys.has(key)))
        .map(({ schema, name }) => relationKey(schema, name)),
    ),
    // a table that is only needed, by its partitions, has not all of its rows
    holdsAll: (key) => (needs.get(key) ?? []).every(({ to }) => !to.startsWith(`${CATALOG.class} `) || chosen.has(to)),
    listed: relations.filter(({ key }) => keys.has(key)).map(({ schema, name }) => `${schema} ${name}`),
  }
}

/** The tables of the whole backup whose rows are not in it, so that constraints that need them are left out. */
export async function withoutTables(oids: readonly number[], source: BackupSource): Promise<(key: Key) => boolean> {
  const missing = new Set(oids.map((oid) => `${CATALOG.class} ${oid}`))
  const broken = new Set<Key>()
  for await (const [classid, objid, refclassid, refobjid] of lines(source, 'dependencies')) {
    const from = `${classid} ${objid}`
    if (classid === '2606' && missing.has(`${refclassid} ${refobjid}`)) broken.add(from)
  }
  return (key) => !broken.has(key)
}

/** Parts of an object that its definition contains, or cannot do without: row types, defaults, the rule of a view. */
function isDefinition(key: Key): boolean {
  return [CATALOG.type, CATALOG.default, CATALOG.rewrite].some((catalog) => key.startsWith(`${catalog} `))
}

/** Schemas (see dependencies.ts) and the kinds of relations that are no part of another one, as an index is. */
const CHOOSABLE = 'srpvmfS'

function seedsOf(parts: readonly string[], relations: readonly Relation[]): Key[] {
  return parts.flatMap((part) => {
    const found = relations.filter((relation) => {
      if (!CHOOSABLE.includes(relation.kind)) return false
      return relation.kind === 's' ? part === relation.schema || part === relation.part : isNamed(relation, part)
    })
    // a schema's name fits all its tables too: those belong to it anyway
    if (found.length > 0) return found.map(({ key }) => key)
    throw new HoldfastError('not_found', `the backup has no schema or table ${JSON.stringify(part.slice(0, 200))}`, {
      hint: 'Name parts as `show` does: schema, or schema.table, in double quotes where SQL needs them.',
    })
  })
}

async function readRelations(source: BackupSource): Promise<Relation[]> {
  const found: Relation[] = []
  for await (const [classid, oid, schema = '', name = '', part = '', kind = ''] of lines(source, 'objects')) {
    found.push({ key: `${classid} ${oid}`, schema, name, part, kind })
  }
  return found
}

async function* lines(source: BackupSource, artifact: string): AsyncGenerator<string[]> {
  for await (const line of linesOf(source.openStream(artifact))) {
    const fields = copyFields(line)
    if (fields.length < 5) throw invalid(`has a line in ${artifact} that cannot be read`)
    yield fields
  }
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key)
  if (list) list.push(value)
  else map.set(key, [value])
}
