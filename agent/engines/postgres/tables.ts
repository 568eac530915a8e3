import { HoldfastError } from '../../../shared/errors.ts'
import type { Session } from './session.ts'

/** A table whose rows are read, or (partitioned) only locked. */
export interface Table {
  readonly oid: number
  readonly schema: string
  readonly name: string
  /** "schema.table", quoted where SQL needs it: the part as `show` names it. */
  readonly part: string
  /** False for a partitioned table: its partitions hold the rows. */
  readonly holdsRows: boolean
  /** Without generated columns, as pg_dump has it: they cannot be written. */
  readonly columns: readonly string[]
  readonly sizeBytes: number
  readonly pages: number
  readonly heap: boolean
  /** An extension's condition on which of its rows belong to the user; null for a usual table. SQL of the server's. */
  readonly condition: string | null
  /** Where the rows have to be written instead, for partitions whose bounds depend on the server (see below). */
  readonly loadInto: { readonly schema: string; readonly name: string; readonly part: string } | null
}

/**
 * What pg_dump 18 takes: tables, and tables of extensions only when the extension declares them as its configuration.
 * Unlogged tables cannot be read on a standby. Partitions by hash of an enum are loaded through their root, since the hash is
 * that of the value's OID, which changes with a restore.
 */
const TABLES = `
  select c.oid, n.nspname as schema, c.relname as name, format('%I.%I', n.nspname, c.relname) as part,
         c.relkind = 'r' as "holdsRows", coalesce(pg_table_size(c.oid), 0)::float8 as "sizeBytes",
         coalesce(pg_relation_size(c.oid) / current_setting('block_size')::int, 0)::float8 as pages,
         coalesce(am.amname = 'heap', false) as heap, nullif(extension.condition, '') as condition,
         (select coalesce(json_agg(a.attname order by a.attnum), '[]') from pg_attribute a
          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '') as columns,
         (select json_build_object('schema', rn.nspname, 'name', r.relname, 'part', format('%I.%I', rn.nspname, r.relname))
          from pg_class r join pg_namespace rn on rn.oid = r.relnamespace
          where c.relispartition and r.oid = pg_partition_root(c.oid) and exists (
            select from pg_partition_ancestors(c.oid) up join pg_partitioned_table p on p.partrelid = up.relid
            join pg_opclass o on o.oid = any (p.partclass) join pg_am oam on oam.oid = o.opcmethod
            where o.opcname = 'enum_ops' and o.opcnamespace = 'pg_catalog'::regnamespace and oam.amname = 'hash')) as "loadInto"
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  left join pg_am am on am.oid = c.relam
  left join lateral (
    select true as member, (select x.extcondition[i] from generate_subscripts(x.extconfig, 1) i where x.extconfig[i] = c.oid) as condition
    from pg_depend d join pg_extension x on x.oid = d.refobjid
    where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.objsubid = 0
      and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e' limit 1) extension on true
  where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
    and (extension.member is null or extension.condition is not null)
    and not (c.relpersistence = 'u' and pg_is_in_recovery())
  order by n.nspname, c.relname`

export async function listTables(session: Session): Promise<Table[]> {
  return session.rows<Table>(TABLES)
}

/** The tables that `include` and `exclude` leave. A name that fits nothing is refused: a typing error would lose data. */
export function chooseTables(tables: readonly Table[], include: readonly string[], exclude: readonly string[]): Table[] {
  for (const name of [...include, ...exclude]) {
    if (tables.some((table) => isNamed(table, name))) continue
    throw new HoldfastError('not_found', `there is no schema or table ${JSON.stringify(name)} in the database`, {
      hint: 'Name parts as `show` does: schema, or schema.table, in double quotes where SQL needs them.',
    })
  }
  return tables.filter((table) => {
    const named = (name: string) => isNamed(table, name)
    return (include.length === 0 || include.some(named)) && !exclude.some(named)
  })
}

/** The part under which its rows count: rows of such partitions may be in another one after a restore. */
export function countedAs(table: Table): string {
  return table.loadInto?.part ?? table.part
}

/** True when `name` is the table's part, its schema, or either without the quotes. */
export function isNamed(table: { schema: string; name: string; part: string }, name: string): boolean {
  return name === table.part || name === table.schema || name === `${table.schema}.${table.name}`
}
