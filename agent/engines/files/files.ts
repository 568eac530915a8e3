import { loadedWhenUsed } from '../loaded.ts'
import { filesConfig } from './config.ts'

/** A folder with everything that a file system keeps of it: README.md says what and how. */
export const filesEngine = loadedWhenUsed(
  {
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
  },
  () => import('./work.ts'),
)
