import type { Finding, Fingerprint } from '../../../shared/results.ts'
import type { Place, Run } from '../engine.ts'
import { openTree } from './backup.ts'
import { type FilesConfig, locate } from './config.ts'
import { treeEntries } from './entries.ts'
import { fileError } from './errors.ts'
import { Report } from './report.ts'
import { Parts } from './select.ts'
import { Tally } from './tally.ts'

/** Counts a tree without reading a file: by the patterns of its source, or all of what was restored. */
export async function count(place: Place<FilesConfig>, run: Run): Promise<Fingerprint> {
  const { path } = locate(place)
  const tree = openTree(path)
  const [report, tally] = [new Report(run), new Tally()]
  try {
    const config = place.restored ? { ...place.config, include: [], exclude: [] } : place.config
    const scan = { tree, config, parts: new Parts([]), report, tally, run }
    for await (const entry of treeEntries(scan)) if (entry.path.length > 0) run.signal.throwIfAborted()
  } catch (error) {
    throw fileError(error, path)
  } finally {
    tree.close()
    report.close()
  }
  return tally.fingerprint()
}

export async function check(place: Place<FilesConfig>, expected: Fingerprint, run: Run): Promise<Finding[]> {
  const found = await count(place, run)
  const findings: Finding[] = []
  const say = (code: string, message: string) => {
    findings.push({
      code,
      severity: 'error',
      message,
      hint: 'List both sides, for example with find, and look at what is different.',
    })
  }
  for (const [kind, wanted] of Object.entries(expected.counts)) {
    const actual = found.counts[kind]
    if (actual === undefined) say('part_missing', `${kind} were counted in the backup, and are not known here`)
    else if (actual !== wanted) say('count_mismatch', `there are ${actual} ${kind}, and ${wanted} in the backup`)
  }
  for (const kind of Object.keys(found.counts)) {
    if (!Object.hasOwn(expected.counts, kind)) say('part_unexpected', `${kind} are here, and were not counted in the backup`)
  }
  if (findings.length === 0 && found.facts.entries_digest !== expected.facts.entries_digest) {
    say('count_mismatch', 'the counts agree, but paths, types, sizes or links are different')
  }
  return findings
}
