import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { Clock } from '../../shared/clock.ts'

export interface ProcessLock {
  release(): void
}

/**
 * A lock that the kernel gives back when its holder dies, however it dies: SQLite's own on an empty database. Null when another
 * process holds it. Node has no flock(2) of its own.
 */
export function tryProcessLock(file: string): ProcessLock | null {
  const db = new DatabaseSync(file)
  try {
    db.exec('begin exclusive')
  } catch (error) {
    db.close()
    if ((error as { errcode?: number }).errcode === SQLITE_BUSY) return null
    throw error
  }
  return { release: () => db.close() }
}

const SQLITE_BUSY = 5

/** Waits until nobody holds the lock, then takes it. */
export async function waitForProcessLock(file: string, clock: Clock, signal?: AbortSignal): Promise<ProcessLock> {
  for (;;) {
    const lock = tryProcessLock(file)
    if (lock) return lock
    await clock.sleep(200, signal)
  }
}

/** Held by a job's process as long as it lives: whoever gets it knows that the attempt has ended. */
export const attemptLockFile = (scratch: string): string => path.join(scratch, 'lock')
