import { access } from 'node:fs/promises'
import type { EngineWork } from '../loaded.ts'
import { backup } from './backup.ts'
import { check, count } from './check.ts'
import type { FilesConfig } from './config.ts'
import { fileError } from './errors.ts'
import { preflight, preview } from './preflight.ts'
import { restore } from './restore.ts'
import { openSandbox } from './sandbox.ts'
import { findTarget } from './target.ts'

/** What the engine does; what it is known by stands in files.ts. */
export const work: EngineWork<FilesConfig> = {
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
