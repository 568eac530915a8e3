import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { HoldfastError } from '../../shared/errors.ts'

/**
 * Holds a folder for this process alone. The lock is the kernel's (SQLite's exclusive lock on an empty database), so it
 * goes when the process ends, however it ends: no stale file, no process id to compare. PGlite has no lock of its own:
 * two processes would open one folder and diverge in silence.
 */
export function lockFolder(folder: string): { release(): void } {
  const db = new DatabaseSync(path.join(folder, 'lock'), { timeout: 0 })
  try {
    db.exec('begin exclusive')
  } catch (error) {
    db.close()
    throw new HoldfastError('catalog_locked', `catalog folder ${folder} is in use by another process`, {
      hint: 'Stop the other control plane that uses this folder, or give this one another --home.',
      cause: error,
    })
  }
  return { release: () => db.close() }
}
