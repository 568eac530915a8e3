import { z } from 'zod'
import { ident, literal } from './quote.ts'
import type { Session } from './session.ts'

/** A sequence's state. The value is text: it may exceed what a number holds. */
export const sequenceSchema = z.object({
  schema: z.string().min(1).max(300),
  name: z.string().min(1).max(300),
  last_value: z.string().regex(/^-?\d{1,20}$/),
  is_called: z.boolean(),
})
export type SequenceState = z.infer<typeof sequenceSchema>

const AT_ONCE = 100

const SEQUENCES = `
  select n.nspname as schema, c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind = 'S' and c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
    and not (c.relpersistence = 'u' and pg_is_in_recovery())
    and not exists (
      select from pg_depend d join pg_extension x on x.oid = d.refobjid
      where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.refclassid = 'pg_extension'::regclass
        and d.deptype = 'e' and not coalesce(c.oid = any (x.extconfig), false))
  order by 1, 2`

/**
 * Values of all sequences. Sequences know no snapshot: what is read here is as it was at the snapshot or later, so no value
 * that a row of the backup holds can be given out again.
 */
export async function* readSequences(session: Session): AsyncGenerator<SequenceState> {
  const names = await session.rows<{ schema: string; name: string }>(SEQUENCES)
  for (let from = 0; from < names.length; from += AT_ONCE) {
    const selects = names
      .slice(from, from + AT_ONCE)
      .map(
        ({ schema, name }) =>
          `select ${literal(schema)} as schema, ${literal(name)} as name, last_value::text, is_called from ${ident(schema)}.${ident(name)}`,
      )
    yield* await session.rows<SequenceState>(selects.join(' union all '))
  }
}

/** Sets them; several in one statement. */
export async function writeSequences(session: Session, states: readonly SequenceState[]): Promise<void> {
  for (let from = 0; from < states.length; from += AT_ONCE) {
    const calls = states.slice(from, from + AT_ONCE).map((state) => {
      const target = literal(`${ident(state.schema)}.${ident(state.name)}`)
      return `setval(${target}::regclass, ${literal(state.last_value)}::bigint, ${state.is_called})`
    })
    await session.rows(`select ${calls.join(', ')}`)
  }
}
