import { realpath } from 'node:fs/promises'
import type { Finding, Fingerprint } from '../../../shared/results.ts'
import type { Place, Run } from '../engine.ts'
import { fingerprintOf } from './backup.ts'
import { locate, type SqliteConfig } from './config.ts'
import { fileError } from './errors.ts'
import { countFile } from './helper.ts'
import type { Counted } from './messages.ts'

export async function count(place: Place<SqliteConfig>, run: Run): Promise<Fingerprint> {
  return fingerprintOf(await countPlace(place, place.config, run))
}

/** With the full check, whatever backups are made with: a test restore is the moment for it. */
export async function check(place: Place<SqliteConfig>, expected: Fingerprint, run: Run): Promise<Finding[]> {
  const counted = await countPlace(place, { ...place.config, integrity_check: 'full' }, run)
  const findings: Finding[] = counted.problems.map((message) => finding('db_integrity_check_failed', message.slice(0, 1000)))
  for (const [table, wanted] of Object.entries(expected.counts)) {
    const actual = Object.hasOwn(counted.counts, table) ? counted.counts[table] : undefined
    if (actual === undefined) findings.push(finding('part_missing', `table ${JSON.stringify(table)} is missing`))
    else if (actual !== wanted) {
      findings.push(finding('count_mismatch', `table ${JSON.stringify(table)} has ${actual} rows, and ${wanted} in the backup`))
    }
  }
  for (const table of Object.keys(counted.counts)) {
    if (Object.hasOwn(expected.counts, table)) continue
    findings.push(finding('part_unexpected', `table ${JSON.stringify(table)} was not counted in the backup`))
  }
  if (findings.length === 0 && counted.facts.schema_sha256 !== expected.facts.schema_sha256) {
    findings.push(finding('count_mismatch', 'the counts agree, but the schema is another one'))
  }
  return findings
}

function finding(code: string, message: string): Finding {
  return {
    code,
    severity: 'error',
    message,
    hint: 'Compare both files, for example with sqldiff, and look at what is different.',
  }
}

async function countPlace(place: Place<SqliteConfig>, config: SqliteConfig, run: Run): Promise<Counted> {
  const path = locate(place)
  try {
    return await countFile(await realpath(path), config, run)
  } catch (error) {
    run.signal.throwIfAborted()
    throw fileError(error, path)
  }
}
