import { randomUUID } from 'node:crypto'
import { appendFileSync, existsSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'

/** Servers and tools for tests are kept here between runs, one folder NAME-VERSION each, outside the repository. */
export const cacheRoot = process.env.HOLDFAST_TEST_CACHE ?? path.join(homedir(), '.cache', 'holdfast-test')

/**
 * The folder of a part, made once: `make` fills a temporary folder that is then renamed, so that a half-made part is
 * never used. Only one process makes a part at a time; the others wait.
 */
export async function cached(name: string, version: string, make: (folder: string) => Promise<void>): Promise<string> {
  const final = path.join(cacheRoot, `${name}-${version}`)
  if (existsSync(final)) return final
  await mkdir(cacheRoot, { recursive: true, mode: 0o755 })
  const lock = await exclusive(path.join(cacheRoot, `${name}-${version}.lock`))
  try {
    if (existsSync(final)) return final
    const draft = `${final}.${randomUUID()}`
    await mkdir(draft)
    try {
      await make(draft)
      await rename(draft, final)
    } catch (error) {
      await rm(draft, { recursive: true, force: true })
      throw error
    }
    return final
  } finally {
    lock.close()
  }
}

/** A lock that the kernel gives back when the process ends: SQLite's own on an empty database. Waits up to 20 minutes. */
async function exclusive(file: string): Promise<DatabaseSync> {
  const db = new DatabaseSync(file, { timeout: 20 * 60 * 1000 })
  db.exec('begin exclusive')
  return db
}

export type Cost =
  /** A download from a package registry of at most 100 MB: done on any machine. */
  | 'download'
  /** Compiles a server, or needs root: done only with HOLDFAST_TEST_REQUIRE=all; used elsewhere when already there. */
  | 'build'

/**
 * A real part for a suite: what `get` returns, or null when this machine cannot have it, so that the suite is skipped
 * with a reason. With HOLDFAST_TEST_REQUIRE=all a part that cannot be had is an error. `present` says whether it is already there.
 */
export async function available<T>(part: string, cost: Cost, present: () => boolean, get: () => Promise<T>): Promise<T | null> {
  const required = process.env.HOLDFAST_TEST_REQUIRE === 'all'
  if (!required && cost === 'build' && !present()) {
    report({ part, used: false, reason: 'not installed here; HOLDFAST_TEST_REQUIRE=all builds it' })
    return null
  }
  try {
    const value = await get()
    report({ part, used: true })
    return value
  } catch (error) {
    if (required) throw new Error(`${part} cannot be had on this machine`, { cause: error })
    report({ part, used: false, reason: error instanceof Error ? error.message : String(error) })
    return null
  }
}

function report(line: { part: string; used: boolean; reason?: string }): void {
  const file = process.env.HOLDFAST_TEST_REPORT
  if (file) appendFileSync(file, `${JSON.stringify(line)}\n`)
}
