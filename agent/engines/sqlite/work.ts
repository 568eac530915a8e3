import type { EngineWork } from '../loaded.ts'
import { backup } from './backup.ts'
import { check, count } from './check.ts'
import type { SqliteConfig } from './config.ts'
import { describe, preflight, preview } from './preflight.ts'
import { restore } from './restore.ts'
import { openSandbox } from './sandbox.ts'
import { findTarget } from './target.ts'

/** What the engine does; what it is known by stands in sqlite.ts. */
export const work: EngineWork<SqliteConfig> = {
  /** Any file of a host could be one: what to protect is the administrator's to say. */
  discover: async () => [],
  describe,
  preflight,
  backup,
  preview,
  restore,
  placeKey: async (place) => (await findTarget(place)).path,
  count,
  check,
  sandbox: openSandbox,
}
