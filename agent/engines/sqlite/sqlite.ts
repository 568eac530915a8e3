import type { Engine } from '../engine.ts'
import { backup } from './backup.ts'
import { check, count } from './check.ts'
import { type SqliteConfig, sqliteConfig } from './config.ts'
import { describe, preflight, preview } from './preflight.ts'
import { restore } from './restore.ts'
import { openSandbox } from './sandbox.ts'
import { findTarget } from './target.ts'

/** One SQLite database file, backed up while others write to it. */
export const sqliteEngine: Engine<SqliteConfig> = {
  kind: 'sqlite',
  config: sqliteConfig,
  abilities: {
    kinds: ['full', 'incremental', 'differential'],
    parts: null,
    mapping: false,
    tenants: false,
    pointInTime: false,
    overwrite: 'swap',
  },
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
