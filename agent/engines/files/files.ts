import { access } from 'node:fs/promises'
import type { Engine } from '../engine.ts'
import { backup } from './backup.ts'
import { check, count } from './check.ts'
import { type FilesConfig, filesConfig } from './config.ts'
import { fileError } from './errors.ts'
import { preflight, preview } from './preflight.ts'
import { restore } from './restore.ts'
import { openSandbox } from './sandbox.ts'
import { findTarget } from './target.ts'

/** A folder with everything that a file system keeps of it: README.md says what and how. */
export const filesEngine: Engine<FilesConfig> = {
  kind: 'files',
  config: filesConfig,
  abilities: {
    kinds: ['full', 'incremental', 'differential'],
    parts: 'path',
    mapping: false,
    tenants: false,
    pointInTime: false,
    overwrite: 'swap',
  },
  /** Every folder of a host could be one: what to protect is the administrator's to say. */
  discover: async () => [],
  async describe(config) {
    try {
      await access(config.path)
      return { path: config.path }
    } catch (error) {
      throw fileError(error, config.path)
    }
  },
  preflight,
  backup,
  preview,
  restore,
  placeKey: async (place) => findTarget(place).path,
  count,
  check,
  sandbox: openSandbox,
}
