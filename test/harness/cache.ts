import { appendFileSync, existsSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'

/**
 * Servers and tools for tests are kept here between runs, one folder NAME-VERSION each, outside the repository. Root's is
 * not under its home: servers that refuse root run as another user, who may not enter that.
 */
export const cacheRoot =
  process.env.HOLDFAST_TEST_CACHE ??
  (process.getuid?.() === 0 ? '/var/cache/holdfast-test' : path.join(homedir(), '.cache', 'holdfast-test'))

/** Whether a part is in the cache already. */
export function isCached(name: string, version: string): boolean {
  return existsSync(path.join(cacheRoot, `${name}-${version}`))
}

/**
 * The folder of a part, made once: `make` fills a temporary folder that is then renamed, so that a half-made part is
 * never used. Only one process makes a part at a time; the others wait.
 */
export async function cached(name: string, version: string, make: (folder: string) => Promise<void>): Promise<string> {
  const final = path.join(cacheRoot, `${name}-${version}`)
  if (existsSync(final)) return final
  return exclusively(path.join(cacheRoot, `${name}-${version}.lock`), async () => {
    if (existsSync(final)) return final
    const draft = `${final}.draft`
    await rm(draft, { recursive: true, force: true }) // a maker that was killed
    await mkdir(draft)
    try {
      await make(draft)
      await rename(draft, final)
    } catch (error) {
      await rm(draft, { recursive: true, force: true })
      throw error
    }
    return final
  })
}

const waiting = new Map<string, Promise<unknown>>()

/**
 * One at a time, in this process and beside others, by a lock that the kernel gives back when the process ends: SQLite's own
 * on an empty database. A wait for another process blocks this whole one, at most 20 minutes.
 */
export function exclusively<T>(file: string, work: () => Promise<T>): Promise<T> {
  // Without the queue a second caller in this process would block the event loop that the first one needs to finish.
  const before = waiting.get(file) ?? Promise.resolve()
  const turn = before.then(
    () => locked(file, work),
    () => locked(file, work),
  )
  waiting.set(file, turn)
  return turn
}

async function locked<T>(file: string, work: () => Promise<T>): Promise<T> {
  await mkdir(path.dirname(file), { recursive: true, mode: 0o755 })
  const lock = new DatabaseSync(file, { timeout: 20 * 60 * 1000 })
  try {
    lock.exec('begin exclusive')
    return await work()
  } finally {
    lock.close()
  }
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
