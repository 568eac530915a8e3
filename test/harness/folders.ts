import { rmSync } from 'node:fs'
import { chmod, chown, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { PlainUser } from './commands.ts'
import { watchdog } from './watchdog.ts'

const standing = new Set<string>()
process.once('exit', () => {
  for (const folder of standing) rmSync(folder, { recursive: true, force: true })
})

export interface ThrowAwayFolder extends AsyncDisposable {
  readonly path: string
  /** Removes it with all that is in it; the end of the process does so too, however it comes. */
  remove(): Promise<void>
}

/**
 * An empty folder of its own. Its path is short enough for a Unix socket in it. `owner` for a server that runs as another
 * user. Use: `await using folder = await throwAwayFolder()`, or `remove()` in afterAll.
 */
export async function throwAwayFolder(options: { owner?: PlainUser | undefined } = {}): Promise<ThrowAwayFolder> {
  const folder = await mkdtemp(path.join(tmpdir(), 'hf-'))
  standing.add(folder)
  watchdog.addFolder(folder)
  if (options.owner) {
    await chown(folder, options.owner.uid, options.owner.gid)
    await chmod(folder, 0o700)
  }
  const remove = async () => {
    await rm(folder, { recursive: true, force: true, maxRetries: 3 })
    standing.delete(folder)
    watchdog.removeFolder(folder)
  }
  return { path: folder, remove, [Symbol.asyncDispose]: remove }
}
