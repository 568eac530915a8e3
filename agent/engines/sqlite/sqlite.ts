import { loadedWhenUsed } from '../loaded.ts'
import { sqliteConfig } from './config.ts'

/** One SQLite database file, backed up while others write to it. */
export const sqliteEngine = loadedWhenUsed(
  {
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
  },
  () => import('./work.ts'),
)
