import type { Finding, Fingerprint } from '../../../shared/results.ts'
import type { Place, Run } from '../engine.ts'
import { addressOf } from './address.ts'
import type { PostgresConfig } from './config.ts'
import { countPlace, LARGE_OBJECTS, SEQUENCES } from './count.ts'
import { withSessions } from './session.ts'

/** Every count of the fingerprint against the place, and whether the indexes there can be used. */
export async function checkPlace(place: Place<PostgresConfig>, expected: Fingerprint, run: Run): Promise<Finding[]> {
  const found = await countPlace(place, run)
  return [...compareCounts(expected.counts, found.counts), ...(await brokenIndexes(place, run))]
}

export function compareCounts(expected: Readonly<Record<string, number>>, found: Readonly<Record<string, number>>): Finding[] {
  const findings: Finding[] = []
  for (const [part, count] of Object.entries(expected)) {
    const there = found[part]
    if (there === undefined) {
      findings.push(failed('part_missing', `${part} is missing; it had ${count} rows when it was backed up`))
    } else if (there !== count) {
      findings.push(failed('count_mismatch', `${part} has ${there} rows; it had ${count} when it was backed up`))
    }
  }
  // a backup of chosen parts counts neither of these
  const whole = Object.hasOwn(expected, SEQUENCES)
  for (const [part, count] of Object.entries(found)) {
    if (!whole && (part === SEQUENCES || part === LARGE_OBJECTS)) continue
    // a table whose rows were excluded comes back empty, and so does one that chosen parts need
    if (count === 0) continue
    if (!Object.hasOwn(expected, part))
      findings.push(failed('part_unexpected', `${part}, with ${count} rows, was not part of the backup`))
  }
  return findings
}

/** pg_dump writes no invalid index, so one in a restored database could not be built. */
async function brokenIndexes(place: Place<PostgresConfig>, run: Run): Promise<Finding[]> {
  const address = await addressOf(place.config)
  return withSessions({ ...address, database: place.targetName ?? address.database }, run, async (sessions) => {
    const session = await sessions.open()
    const broken = await session.rows<{ name: string }>(
      `select format('%I.%I', n.nspname, c.relname) as name from pg_index i join pg_class c on c.oid = i.indexrelid
       join pg_namespace n on n.oid = c.relnamespace
       where not i.indisvalid and n.nspname !~ '^pg_' and c.relkind = 'i' limit 100`,
    )
    return broken.map(({ name }) => failed('db_integrity_check_failed', `index ${name} is not valid`))
  })
}

const failed = (code: string, message: string): Finding => ({
  code,
  severity: 'error',
  message: message.slice(0, 4000),
  hint: 'Do not rely on this copy: verify the backup, and restore another one if it is damaged.',
})
