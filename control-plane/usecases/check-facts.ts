import { HoldfastError } from '../../shared/errors.ts'
import { contentsName, indexName } from '../../shared/manifest/layout.ts'
import type { Facts } from '../../shared/manifest/manifest.ts'

/** What the control plane itself decided or recorded about the backup that is offered. */
export interface ExpectedFacts {
  readonly fleetId: string
  readonly host: string
  readonly source: string
  readonly engine: string
  readonly id: string
  readonly attempt: number
  readonly type: 'full' | 'incremental' | 'differential'
  readonly recipients: readonly string[]
  /** Backups that the command allowed it to lean on: id and manifest hash in hex. */
  readonly mayLeanOn: ReadonlyMap<string, string>
  /** Objects that addresses were given for. */
  readonly ledger: ReadonlyMap<string, { readonly size: number; readonly sha256: Buffer }>
}

/**
 * Is what the agent offers the backup that it was told to make? Everything that it says about itself is untrusted; only objects that
 * were asked for count, and a kind may fall back from what was asked to a full, never the other way.
 */
export function checkFacts(facts: Facts, expected: ExpectedFacts): void {
  same('fleet', facts.fleet_id, expected.fleetId)
  same('host', facts.host, expected.host)
  same('source', facts.source, expected.source)
  same('engine', facts.engine, expected.engine)
  same('id', facts.id, expected.id)
  same('attempt', facts.attempt, expected.attempt)
  if (facts.type !== 'full') same('type', facts.type, expected.type)
  same('recipients', [...facts.recipients].sort().join(' '), [...expected.recipients].sort().join(' '))
  checkLeans(facts, expected)
  checkObjects(facts, expected)
}

function checkLeans(facts: Facts, expected: ExpectedFacts): void {
  if (facts.type === 'full' && facts.leans_on.length > 0) throw refused('a full leans on other backups')
  for (const lean of facts.leans_on) {
    if (lean.host !== expected.host || lean.source !== expected.source) throw refused(`it leans on ${lean.id} of another source`)
    if (expected.mayLeanOn.get(lean.id) !== lean.manifest_sha256)
      throw refused(`it leans on ${lean.id}, which the command did not name`)
  }
}

function checkObjects(facts: Facts, expected: ExpectedFacts): void {
  const seen = new Set<string>()
  for (const object of facts.objects) {
    if (seen.has(object.name)) throw refused(`object ${object.name} is named twice`)
    seen.add(object.name)
    const asked = expected.ledger.get(object.name)
    if (!asked) throw refused(`object ${object.name} was never asked for`)
    if (asked.size !== object.size || asked.sha256.toString('hex') !== object.sha256) {
      throw refused(`object ${object.name} is not the one that was asked for`)
    }
  }
  for (const name of [contentsName(facts.attempt), indexName(facts.attempt), ...facts.keys.map((key) => key.name)]) {
    if (!seen.has(name)) throw refused(`object ${name} is missing from the list`)
  }
}

function same(what: string, found: string | number, wanted: string | number): void {
  if (found !== wanted) throw refused(`its ${what} is ${JSON.stringify(found)}, not ${JSON.stringify(wanted)}`)
}

const refused = (why: string): HoldfastError =>
  new HoldfastError('backup_invalid', `the facts that the agent offers are refused: ${why}`, {
    hint: 'Look at the log of the job; an agent that offers another backup than it was told to make may be broken or stolen.',
  })
