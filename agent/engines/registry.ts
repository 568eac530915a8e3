import { HoldfastError } from '../../shared/errors.ts'
import type { Engine } from './engine.ts'
import { filesEngine } from './files/files.ts'

import { postgresEngine } from './postgres/postgres.ts'
import { sqliteEngine } from './sqlite/sqlite.ts'

/** Every engine of the product, one line each. The configuration of a source is checked by `engine.config` before use. */
const ENGINES: Engine[] = [filesEngine, postgresEngine as Engine, sqliteEngine]

export function engineKinds(): string[] {
  return ENGINES.map((engine) => engine.kind)
}

export function engineFor(kind: string): Engine {
  const engine = ENGINES.find((candidate) => candidate.kind === kind)
  if (engine) return engine
  throw new HoldfastError('not_supported', `engine ${JSON.stringify(kind)} is not known`, {
    hint: `Use one of: ${engineKinds().join(', ')}.`,
    context: { kinds: engineKinds() },
  })
}

/** Adds one for this process: the fake engine, by tests. A kind that is there already throws `already_exists`. */
export function registerEngine(engine: Engine): void {
  if (engineKinds().includes(engine.kind)) {
    throw new HoldfastError('already_exists', `engine ${JSON.stringify(engine.kind)} is registered already`, {
      hint: 'Give the engine a kind of its own.',
    })
  }
  ENGINES.push(engine)
}
